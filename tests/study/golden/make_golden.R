# Makes example.csv and golden.json, which the tests hold kneerisk's figures against. R is not needed to test.
#
#   Rscript make_golden.R      (R 4.2.2, pROC 1.18.0, rms 6.5-0, jsonlite)
#
# The example is simulated here: 400 knees with an event in a fifth of them, two scores (the second coarse, with
# many ties), no participant twice. Net benefit is written out as Vickers & Elkin (2006) define it; dcurves
# computes the same.

suppressMessages({
  library(pROC)
  library(rms)
})

set.seed(2506)
n <- 400
hidden <- rnorm(n)
event <- rbinom(n, 1, plogis(-1.7 + hidden))
score_a <- round(plogis(-1.2 + 1.3 * hidden + rnorm(n, sd = 0.8)), 6)
score_b <- round(plogis(-1.5 + 0.6 * hidden + rnorm(n)), 1)
score_b <- pmin(pmax(score_b, 0.05), 0.95)
example <- data.frame(knee = seq_len(n), score_a, score_b, event)
write.csv(example, "example.csv", row.names = FALSE, quote = FALSE)
example <- read.csv("example.csv")

of <- function(score) {
  roc <- roc(example$event, score, direction = "<", quiet = TRUE)
  interval <- as.numeric(ci.auc(roc, method = "delong"))
  v <- suppressWarnings(val.prob(score, example$event, pl = FALSE))
  large <- glm(event ~ offset(qlogis(score)), family = binomial, data = example)
  free <- glm(event ~ qlogis(score), family = binomial, data = example)
  smooth <- lowess(score, example$event, iter = 0)
  apart <- abs(score - approx(smooth, xout = score, ties = mean)$y)
  list(
    auc = as.numeric(auc(roc)), auc_low = interval[1], auc_high = interval[3], auc_variance = var(roc),
    brier = v[["Brier"]], intercept = v[["Intercept"]], slope = v[["Slope"]],
    large = unname(coef(large)), large_se = unname(sqrt(vcov(large)[1, 1])),
    slope_se = unname(sqrt(vcov(free)[2, 2])),
    ici = v[["Eavg"]], e50 = unname(quantile(apart, 0.5)), e90 = v[["E90"]]
  )
}

benefit <- function(score, t) {
  called <- score >= t
  (sum(called & example$event == 1) - t / (1 - t) * sum(called & example$event == 0)) / n
}
thresholds <- c(0.05, 0.1, 0.2, 0.3, 0.5)
at <- function(t) {
  called <- example$score_a >= t
  yes <- example$event == 1
  list(
    threshold = t, positives = sum(called), sensitivity = mean(called[yes]), specificity = mean(!called[!yes]),
    ppv = mean(yes[called]), npv = mean(!yes[!called]), net_benefit = benefit(example$score_a, t),
    treat_all = benefit(rep(1, n), t)
  )
}
a <- roc(example$event, example$score_a, direction = "<", quiet = TRUE)
b <- roc(example$event, example$score_b, direction = "<", quiet = TRUE)
golden <- list(
  made_with = list(
    R = paste(R.version$major, R.version$minor, sep = "."),
    pROC = as.character(packageVersion("pROC")), rms = as.character(packageVersion("rms"))
  ),
  score_a = of(example$score_a), score_b = of(example$score_b),
  p_delong = roc.test(a, b, method = "delong", paired = TRUE)$p.value,
  thresholds = lapply(thresholds, at)
)
writeLines(jsonlite::toJSON(golden, auto_unbox = TRUE, digits = 12, pretty = TRUE), "golden.json")

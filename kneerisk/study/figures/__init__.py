"""The plots of a study: drawn once for a page that is dark or light, once for paper."""

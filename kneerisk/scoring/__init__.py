"""From knee crops to a table of risks: predict, risk, table, journal; cohort joins the rooms."""

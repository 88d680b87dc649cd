# The confirmatory graded response model with correlated traits by mirt, for
# calibration_peers_correlated.py.
#
# Arguments: a CSV of grades (items keyed alike), a text file with mirt's model, MHRM or QMCEM, and
# for QMCEM the number of points. Prints lines of "quantity,first,second,estimate".
suppressMessages(library(mirt))
given <- commandArgs(TRUE)
data <- read.csv(given[1])
model <- mirt.model(paste(readLines(given[2]), collapse = "\n"))
set.seed(1)
began <- proc.time()
start <- mirt(data, model, itemtype = "graded", method = "MHRM", verbose = FALSE)
fit <- start
if (given[3] == "QMCEM") {
  values <- mod2values(start)
  fit <- mirt(data, model, itemtype = "graded", method = "QMCEM", verbose = FALSE,
              quadpts = as.integer(given[4]), pars = values, TOL = 1e-3,
              technical = list(NCYCLES = 200))
}
used <- proc.time() - began
told <- coef(fit, simplify = TRUE)
traits <- rownames(told$cov)
for (i in seq_along(traits)) for (j in seq_len(i - 1))
  cat(sprintf("correlation,%s,%s,%.6f\n", traits[j], traits[i], told$cov[i, j]))
slopes <- told$items[, grep("^a[0-9]+$", colnames(told$items))]
for (item in rownames(slopes))
  cat(sprintf("discrimination,%s,,%.6f\n", item, slopes[item, which.max(abs(slopes[item, ]))]))
cat(sprintf("log_likelihood,,,%.4f\n", extract.mirt(fit, "logLik")))
cat(sprintf("cpu_seconds,,,%.1f\n", used["user.self"]))

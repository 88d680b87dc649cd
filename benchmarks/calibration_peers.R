# Fits one scale by mirt and, unless told otherwise, ltm; prints lines "package,quantity,item,index,value".
#
#     Rscript benchmarks/calibration_peers.R grades.csv [mirt|ltm|mirt-once|mirt-repeated ...]
#     Rscript benchmarks/calibration_peers.R --data PACKAGE::EXPRESSION
#
# The second form prints a package's published data as a table of whole numbers instead, such as
# mirt::Science or psychotools::VerbalAggression$resp. The package itself is not loaded.
#
# Each package is timed at its own defaults, point estimates only, the second of two runs; what is
# compared is a second fit, taken to a tight optimum on as many nodes as +-6 at 0.2 has.
arguments <- commandArgs(trailingOnly = TRUE)

published <- function(package, expression) {
  expression <- parse(text = expression)
  held <- new.env()
  known <- data(package = package)$results[, "Item"]
  files <- sub("[)]$", "", sub("^.*[(]", "", known))
  wanted <- files[sub(" .*$", "", known) %in% all.vars(expression)]
  data(list = wanted, package = package, envir = held)
  said <- as.data.frame(unclass(eval(expression, held)))
  table <- as.data.frame(lapply(said, as.numeric), check.names = FALSE, col.names = names(said))
  if (any(table != round(table), na.rm = TRUE)) {
    stop("not whole numbers: wrap the expression in round()")
  }
  often <- grep("^freq", names(table), ignore.case = TRUE)
  if (length(often)) {
    table <- table[rep(seq_len(nrow(table)), table[[often]]), -often]
  }
  table
}

if (arguments[1] == "--data") {
  parts <- regmatches(arguments[2], regexpr("::", arguments[2]), invert = TRUE)[[1]]
  write.csv(published(parts[1], parts[2]), row.names = FALSE)
  quit()
}

grades <- read.csv(arguments[1], check.names = FALSE)
wanted <- if (length(arguments) > 1) arguments[-1] else c("mirt", "ltm")

say <- function(package, quantity, value, item = "", index = 0) {
  cat(sprintf("%s,%s,%s,%d,%.10g\n", package, quantity, item, as.integer(index), value))
}

elapsed <- function(expression) {
  began <- proc.time()[["elapsed"]]
  force(expression)
  proc.time()[["elapsed"]] - began
}

tell_items <- function(package, table, quantity) {
  for (item in names(table)) {
    for (index in seq_along(table[[item]])) {
      say(package, quantity, table[[item]][index], item, index - 1)
    }
  }
}

by_mirt <- function() {
  say("mirt", "load_seconds", elapsed(suppressMessages(library(mirt))))
  cat(sprintf("mirt,version_%s,,0,0\n", packageVersion("mirt")))
  plain <- function() mirt(grades, 1, itemtype = "graded", verbose = FALSE)
  plain()
  say("mirt", "seconds", elapsed(plain()))
  say("mirt", "seconds_with_errors", elapsed(
    mirt(grades, 1, itemtype = "graded", verbose = FALSE, SE = TRUE)))
  fit <- mirt(grades, 1, itemtype = "graded", verbose = FALSE, SE = TRUE, TOL = 1e-7,
    quadpts = 61, technical = list(NCYCLES = 5000, theta_lim = c(-6, 6)))
  say("mirt", "log_likelihood", extract.mirt(fit, "logLik"))
  said <- coef(fit, IRTpars = TRUE, printSE = TRUE)[names(grades)]
  tell_items("mirt", lapply(said, function(part) part[1, ]), "estimate")
  tell_items("mirt", lapply(said, function(part) part[2, ]), "error")
}

by_ltm <- function() {
  say("ltm", "load_seconds", elapsed(suppressMessages(library(ltm))))
  cat(sprintf("ltm,version_%s,,0,0\n", packageVersion("ltm")))
  factors <- as.data.frame(lapply(grades, factor))
  names(factors) <- names(grades)
  say("ltm", "seconds", elapsed(grm(factors)))
  fit <- grm(factors, control = list(GHk = 61, iter.qN = 1000))
  say("ltm", "log_likelihood", as.numeric(logLik(fit)))
  # coef() rounds to three digits; the fit itself holds cut points, then the discrimination.
  held <- setNames(fit$coefficients, names(grades))
  tell_items("ltm", lapply(held, function(part) {
    slope <- part[length(part)]
    c(slope, part[-length(part)] / slope)
  }), "estimate")
}

# One cold fit at the defaults: for tables that take minutes.
by_mirt_once <- function() {
  suppressMessages(library(mirt))
  say("mirt-once", "seconds", elapsed({
    fit <- mirt(grades, 1, itemtype = "graded", verbose = FALSE)
  }))
  say("mirt-once", "log_likelihood", extract.mirt(fit, "logLik"))
  say("mirt-once", "iterations", extract.mirt(fit, "iterations"))
  say("mirt-once", "peak_gib", sum(gc()[, 6]) / 1024)
}

# Columns item@0, item@1, ... are answers to one item: all have its slope and its intercepts.
by_mirt_repeated <- function() {
  say("mirt-repeated", "load_seconds", elapsed(suppressMessages(library(mirt))))
  cat(sprintf("mirt-repeated,version_%s,,0,0\n", packageVersion("mirt")))
  item <- sub("@.*$", "", names(grades))
  blocks <- split(seq_along(item), factor(item, unique(item)))
  cuts <- sapply(blocks, function(block) length(unique(unlist(grades[block]))) - 1)
  equal <- unlist(lapply(names(blocks), function(name) {
    ends <- range(blocks[[name]])
    held <- c("a1", paste0("d", seq_len(cuts[[name]])))
    sprintf("(%d-%d, %s)", ends[1], ends[2], held)
  }))
  model <- sprintf("F = 1-%d\nCONSTRAIN = %s", ncol(grades), paste(equal, collapse = ", "))
  by <- function(...) {
    mirt(grades, mirt.model(model), itemtype = "graded", verbose = FALSE, ...)
  }
  say("mirt-repeated", "seconds", elapsed(by()))
  say("mirt-repeated", "seconds_with_errors", elapsed(by(SE = TRUE)))
  fit <- by(SE = TRUE, TOL = 1e-7, quadpts = 481,
    technical = list(NCYCLES = 5000, theta_lim = c(-6, 6)))
  say("mirt-repeated", "log_likelihood", extract.mirt(fit, "logLik"))
  first <- names(grades)[sapply(blocks, min)]
  said <- setNames(coef(fit, IRTpars = TRUE, printSE = TRUE)[first], names(blocks))
  tell_items("mirt-repeated", lapply(said, function(part) part[1, ]), "estimate")
  tell_items("mirt-repeated", lapply(said, function(part) part[2, ]), "error")
}

if ("mirt-once" %in% wanted) by_mirt_once()
if ("mirt" %in% wanted) by_mirt()
if ("ltm" %in% wanted) by_ltm()
if ("mirt-repeated" %in% wanted) by_mirt_repeated()

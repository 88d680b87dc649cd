"""The tables of the warehouse."""

from typing import Final

from schemas.spec import Column, ColumnType, IntegerRangePartition, TableSpec

_STRING, _INT64, _FLOAT64 = ColumnType.STRING, ColumnType.INT64, ColumnType.FLOAT64

_BY_ITERATION: Final = IntegerRangePartition("iteration", start=0, end=10_000, interval=1)

_NAMESPACE: Final = Column("namespace", _STRING, required=True, description="smoke or production.")
_ITERATION: Final = Column(
    "iteration", _INT64, required=True, description="The number of the calibration run.",
)  # fmt: skip
_FAMILY: Final = Column(
    "family", _STRING, required=True, description="The constructs that are calibrated together.",
)  # fmt: skip

GRADES: Final = TableSpec(
    name="grades",
    columns=(
        _NAMESPACE,
        _ITERATION,
        Column("shard_index", _INT64, required=True, description="The slice of the corpus."),
        _FAMILY,
        Column("persona", _INT64, required=True, description="Who speaks."),
        Column("session", _INT64, required=True, description="In which talk."),
        Column("turn", _INT64, required=True, description="Which utterance of the talk."),
        Column("construct", _STRING, required=True, description="The trait facet scored."),
        Column("grade", _INT64, required=True, description="The ordered category."),
    ),
    # A construct may stand in two families, so the family is part of the key.
    key=(
        "namespace", "iteration", "shard_index", "family",
        "persona", "session", "turn", "construct",
    ),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "shard_index"),
    description="One grade of one construct for one turn of the corpus.",
)  # fmt: skip

CALIBRATION_METRICS: Final = TableSpec(
    name="calibration_metrics",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("item", _STRING, required=True, description="The construct or item."),
        Column("discrimination_mean", _FLOAT64, description="Posterior mean of a."),
        Column("discrimination_sd", _FLOAT64, description="Posterior standard deviation of a."),
        Column("discrimination_hdi_low", _FLOAT64, description="Lower end of a's 95% HDI."),
        Column("discrimination_hdi_high", _FLOAT64, description="Upper end of a's 95% HDI."),
        Column(
            "thresholds",
            ColumnType.JSON,
            required=True,
            description="Array of {mean, sd, hdi95}, one for each step between categories.",
        ),
        Column("r_hat_max", _FLOAT64, description="Largest R-hat of the item's parameters."),
        Column("ess_bulk_min", _FLOAT64, description="Smallest bulk ESS of its parameters."),
        Column("ess_tail_min", _FLOAT64, description="Smallest tail ESS of its parameters."),
        Column("n_responses", _INT64, required=True, description="Grades that the fit has seen."),
    ),
    key=("namespace", "iteration", "family", "item"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="What the fit of a family says of each of its items.",
)

INVARIANCE: Final = TableSpec(
    name="invariance",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("level", _STRING, required=True, description="configural, metric or scalar."),
        Column("log_likelihood", _FLOAT64, description="At the maximum, natural log."),
        Column("n_parameters", _INT64, required=True, description="Free parameters."),
        Column("aic", _FLOAT64, description="Akaike's information criterion."),
        Column("bic", _FLOAT64, description="Schwarz's information criterion."),
        Column("delta_bic", _FLOAT64, description="Against the level before; null for the first."),
        Column("holds", ColumnType.BOOL, required=True, description="Whether the level holds."),
    ),
    key=("namespace", "iteration", "family", "level"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="Whether items measure alike in all groups, level by level.",
)

PROMOTIONS: Final = TableSpec(
    name="promotions",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("status", _STRING, required=True, description="promoted or held."),
        Column("grm_uri", _STRING, required=True, description="Where the calibration lies."),
        Column("digest", _STRING, required=True, description="SHA-256 of the calibration."),
        Column("decided_at", ColumnType.TIMESTAMP, description="When the gates were judged."),
    ),
    key=("namespace", "iteration", "family"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="What became of each family's fit.",
)

_GATE: Final = Column("number", _INT64, required=True, description="The gate's number.")

GATES: Final = TableSpec(
    name="gates",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        _GATE,
        Column("gate", _STRING, required=True, description="What it looks at."),
        Column("threshold", _STRING, required=True, description="What must hold, in words."),
        Column("value", _FLOAT64, description="The figure; null where there is none."),
        Column("passed", ColumnType.BOOL, required=True, description="Whether it holds."),
        Column("judged", ColumnType.BOOL, required=True, description="Whether it could be judged."),
        Column("holds", ColumnType.BOOL, required=True, description="Whether a failure holds."),
        Column("reason", _STRING, required=True, description="One line."),
    ),
    key=("namespace", "iteration", "family", "number"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="Each gate's word on each family's fit.",
)

ITEM_CHECKS: Final = TableSpec(
    name="item_checks",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("item", _STRING, required=True, description="The construct or item."),
        Column("residual", _FLOAT64, description="Root mean square residual correlation."),
        Column("residual_p_value", _FLOAT64, description="Share of replications as far out."),
        Column("coverage", _FLOAT64, description="Share of held-out answers in their sets."),
        Column("invariant", ColumnType.BOOL, description="Whether groups answer it alike."),
        Column("delta_bic", _FLOAT64, description="BIC freed between groups less tied."),
        Column("stable", ColumnType.BOOL, description="Whether it stayed, against the promoted."),
    ),
    key=("namespace", "iteration", "family", "item"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="What the checks say of each item; null where a check did not look at it.",
)

MODEL_COMPARISONS: Final = TableSpec(
    name="model_comparisons",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("model", _STRING, required=True, description="The fit's own, or a simpler one."),
        Column(
            "elpd", _FLOAT64, description="Expected log predictive density, respondents left out."
        ),
        Column("se", _FLOAT64, description="Standard error of elpd."),
        Column("p_loo", _FLOAT64, description="Effective number of parameters."),
        Column("difference", _FLOAT64, description="elpd less that of the graded response model."),
        Column("difference_se", _FLOAT64, description="Standard error of the difference."),
        Column("pareto_k_max", _FLOAT64, description="Largest Pareto shape; null where exact."),
        Column("unreliable", _INT64, required=True, description="Left out with too large a shape."),
        Column("left_out", _INT64, required=True, description="Respondents left out, one by one."),
        Column("fitted_again", _INT64, required=True, description="Of them, by a fit of the rest."),
    ),
    key=("namespace", "iteration", "family", "model"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="How well a family's fit and simpler models predict respondents not seen.",
)

SCORES: Final = TableSpec(
    name="scores",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        Column("persona", _INT64, required=True, description="Whose trait."),
        Column("mean", _FLOAT64, description="Expected a posteriori score, theta ~ N(0, 1)."),
        Column("sd", _FLOAT64, description="Posterior standard deviation."),
    ),
    key=("namespace", "iteration", "family", "persona"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="Where each persona stands on each family's trait.",
)

WAIVERS: Final = TableSpec(
    name="waivers",
    columns=(
        _NAMESPACE,
        _ITERATION,
        _FAMILY,
        _GATE,
        Column("gate", _STRING, required=True, description="What the gate looks at."),
        Column("reason", _STRING, required=True, description="Why the gate was waived."),
        Column("waived_by", _STRING, required=True, description="Who waived it."),
        Column("waived_at", ColumnType.TIMESTAMP, required=True, description="When."),
    ),
    key=("namespace", "iteration", "family", "number"),
    partition=_BY_ITERATION,
    cluster=("namespace", "iteration", "family"),
    description="Gates that an operator let a family pass.",
)

TABLES: Final[tuple[TableSpec, ...]] = (
    GRADES,
    CALIBRATION_METRICS,
    INVARIANCE,
    GATES,
    ITEM_CHECKS,
    MODEL_COMPARISONS,
    SCORES,
    PROMOTIONS,
    WAIVERS,
)

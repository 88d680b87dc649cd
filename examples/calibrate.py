# %% [markdown]
# Calibrate the openness scale of `bfi.csv` and ask how far to trust it: no bus, no cloud.
#
#     python examples/calibrate.py

# %% Before anything uses JAX
import csv
import tomllib
from pathlib import Path

import numpy as np

import calibration

calibration.configure(host_devices=4)

# %% Responses: a row per respondent, a column per item, NaN for what is missing
HERE = Path(__file__).parent
with (HERE / "bfi.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
SCALES = tomllib.loads((HERE / "bfi.toml").read_text())


def answers_of(family: str) -> calibration.Responses:
    items = SCALES[family]["items"]
    table = [
        [float(row[item]) if row[item] not in {"", "NA"} else float("nan") for item in items]
        for row in rows
    ]
    turned = SCALES[family].get("reversed", [])
    return calibration.Responses.from_matrix(family, table, items=items, reversed_items=turned)


responses = answers_of("openness")
print(responses.n_respondents, "respondents,", responses.n_responses, "answers")
print(*responses.notes, sep="\n")

# %% Maximum likelihood is instant; leave out `method` for the posterior by NUTS
fit = calibration.fit(responses, seed=1, method="mml")
for estimate in fit.estimates:
    thresholds = " ".join(f"{b.mean:6.2f}" for b in estimate.thresholds)
    a = estimate.discrimination
    print(f"{estimate.item}  a = {a.mean:.2f} ± {a.sd:.2f}  b = {thresholds}")
print(f"log-likelihood {fit.log_likelihood:.3f}, reliability {fit.marginal_reliability:.2f}")

# %% Where on the trait does the scale measure well?
theta = np.array([-2.0, 0.0, 2.0])
slopes = [a.mean for a in fit.discrimination]
cuts = [[b.mean for b in thresholds] for thresholds in fit.thresholds]
information = calibration.test_information(slopes, cuts, theta)
print("standard error at -2, 0 and 2:", np.round(1 / np.sqrt(information), 2))

# %% Does one trait explain how the items hang together? Do predicted grades hold?
check = calibration.check_fit(fit, responses, seed=1)
sets = calibration.predict_sets(responses, seed=1)

# %% Do the first and the second half of the sample answer by one model?
halves = responses.regrouped([row >= 1400 for row in range(responses.n_respondents)])
for item in calibration.name_items(halves):
    print(f"{item.item}  likelihood ratio {item.likelihood_ratio:.1f}  same: {item.invariant}")

# %% The verdicts
for gate in calibration.judge(fit, (), calibration.Evidence(check, sets)):
    print(f"{gate.number:>2} {'pass' if gate.passed else 'HOLD'}  {gate.name}: {gate.reason}")

# %% Draws, five hundred a chain: are unequal discriminations worth it? And a file for ArviZ
posterior = calibration.fit(responses, seed=1, sampler=calibration.SamplerSettings(draws=500))
for row in calibration.compare_models(posterior, responses, seed=1):
    print(f"{row.model:20} {row.difference:9.1f} ± {row.difference_se:.1f}")
print(calibration.to_inference_data(posterior).posterior.sizes)

# %% How do the five scales depend on each other?
fits = [calibration.fit(answers_of(family), seed=1, method="mml") for family in SCALES]
places = [{name: place for place, name in enumerate(fit.theta.respondents)} for fit in fits]
common = sorted(set.intersection(*(set(place) for place in places)))
mean, sd = (
    np.stack(
        [
            getattr(fit.theta, part)[[place[name] for name in common]]
            for fit, place in zip(fits, places, strict=True)
        ],
        axis=1,
    )
    for part in ("mean", "sd")
)
network = calibration.learn_network(tuple(SCALES), mean, sd, seed=1)
for edge in network.edges:
    print(f"{edge.parent} -> {edge.child}  {edge.weight:+.2f}  touch in {edge.strength:.0%}")
print(f"held out, a respondent: {network.log_score - network.log_score_empty:.3f}", end=" ")
print(f"± {network.gain_se:.3f} better than no edges")

# %% [markdown]
# Calibrate the openness scale of `bfi.csv` and ask how far to trust it: no bus, no cloud.
#
#     python examples/calibrate.py

# %% Before anything uses JAX
import csv
from pathlib import Path

import calibration

calibration.configure(host_devices=4)

# %% Responses: a row per respondent, a column per item, NaN for what is missing
ITEMS = ["O1", "O2", "O3", "O4", "O5"]
with (Path(__file__).parent / "bfi.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
table = [
    [float(row[item]) if row[item] not in {"", "NA"} else float("nan") for item in ITEMS]
    for row in rows
]
responses = calibration.Responses.from_matrix(
    "openness", table, items=ITEMS, reversed_items=["O2", "O5"]
)
print(responses.n_respondents, "respondents,", responses.n_responses, "answers")
print(*responses.notes, sep="\n")

# %% Maximum likelihood is instant; leave out `method` for the posterior by NUTS
fit = calibration.fit(responses, seed=1, method="mml")
for estimate in fit.estimates:
    thresholds = " ".join(f"{b.mean:6.2f}" for b in estimate.thresholds)
    a = estimate.discrimination
    print(f"{estimate.item}  a = {a.mean:.2f} ± {a.sd:.2f}  b = {thresholds}")
print(f"log-likelihood {fit.log_likelihood:.3f}, reliability {fit.marginal_reliability:.2f}")

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

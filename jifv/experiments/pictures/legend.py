"""What the words and numbers on a page of pictures mean, in the order in which to read them."""

from jifv.experiments.pictures.judging import LIKELY, SPECIFIC
from jifv.inversion import FAR

VISUALIZED = {
    "d": "what was maximized: ⟨r, v⟩ · cos(r, v)^k, of the response r to the picture and the target v.",
    "cos(r, v)": "how much of the response lies along the target, at most 1. The picture excites the rest as well.",
}

INVERTED = {
    "optimal for": "nothing speaks against this objective. That is no proof: read stationarity and gap.",
    "optimal for nothing here": "the picture is no maximum of this network. The nearest objective then means nothing.",
    "stationarity": f"how much of the gradient is left, 0 at a maximum. Above {FAR:g} do not believe the objective.",
    "gap": "1 if no other objective fits; 0 if another fits as well, and then this one is a guess.",
    "cos(r, v)": "how much of the response lies along the objective. No visualization ends at the cosine's floor.",
    "negative": "share of the objective on negative entries. Objectives that people write have none.",
}

AT_RANDOM = {
    "at random inputs": "the stationarity that the same objective has there. If the picture's is more than "
    f"{SPECIFIC:g} of it, any picture is nearly optimal for the objective.",
}

REOPTIMIZED = {
    "for prediction, for response": "what becomes of the picture when it is optimized further for either.",
    "SSIM": "how much of the picture that leaves as it was, 1 for all. For the right objective it stays.",
}

ON_SPACE = {
    "critical space V": "the directions that inputs can change. What lies outside is lost, so a single class comes "
    "back with a small equal share of the others: with ten classes 0.95 and −0.11.",
}

AUDITED = {
    "nothing speaks against": "the claim passed both tests below. That is no proof.",
    "not": "the claim failed a test; the brackets say which.",
    "stationarity": f"how much of the gradient is left for what is claimed, 0 at a maximum. Above {FAR:g} the claim is "
    "false.",
    "p": f"share of other claims (random ones, every feature, the response) that do as well. Above {LIKELY:g} the "
    "claim is false.",
    "least of others": "the smallest stationarity of those.",
    "on dead features": "share of the claim of which the picture says nothing.",
}

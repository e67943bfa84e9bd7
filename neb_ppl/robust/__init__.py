"""Classifiers that vote on jumps from noisy copies of an event, with certificates."""

from neb_ppl.robust.attack import attack, soft_loss
from neb_ppl.robust.certificates import ABSTAIN, Certificates, certified_radius, lower_bound
from neb_ppl.robust.classifier import SmoothedClassifier, smoothed_classifier
from neb_ppl.robust.networks import ConvClassifier, LinearClassifier, NeuralClassifier
from neb_ppl.robust.saved import load_classifier, save_classifier
from neb_ppl.robust.training import fit_classifier

__all__ = [
    "ABSTAIN",
    "Certificates",
    "ConvClassifier",
    "LinearClassifier",
    "NeuralClassifier",
    "SmoothedClassifier",
    "attack",
    "certified_radius",
    "fit_classifier",
    "load_classifier",
    "lower_bound",
    "save_classifier",
    "smoothed_classifier",
    "soft_loss",
]

"""Learn the energy of a smoothed density, walk on it, jump back to clean space."""

from neb_ppl import data
from neb_ppl.energies import *  # noqa: F403
from neb_ppl.estimators import *  # noqa: F403
from neb_ppl.sampling import *  # noqa: F403
from neb_ppl.walks import *  # noqa: F403

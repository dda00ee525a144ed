"""The settings of training runs: every setting by name, with its limits. They are checked before a run is queued."""

from vouch.recipes.adaptation import ADAPTATION_RECIPES as ADAPTATION_RECIPES
from vouch.recipes.adaptation import Adaptation as Adaptation
from vouch.recipes.alignment import DEFAULT_METHOD as DEFAULT_METHOD
from vouch.recipes.alignment import Alignment as Alignment
from vouch.recipes.asked import Asked as Asked
from vouch.recipes.base import OfDomain as OfDomain
from vouch.recipes.base import Recipe as Recipe
from vouch.recipes.concept import ConceptLearning as ConceptLearning
from vouch.recipes.kinds import RECIPES as RECIPES
from vouch.recipes.names import described as described
from vouch.recipes.names import flat as flat
from vouch.recipes.names import groups as groups
from vouch.recipes.names import nested as nested
from vouch.recipes.names import path_settings as path_settings
from vouch.recipes.names import setting_fields as setting_fields
from vouch.recipes.parsing import parse as parse
from vouch.recipes.parsing import parse_assignments as parse_assignments
from vouch.recipes.parsing import parse_value as parse_value
from vouch.recipes.pretraining import Pretraining as Pretraining
from vouch.recipes.reward import RewardTraining as RewardTraining

from .classifier import Classifier as Classifier
from .classifier import Predictions as Predictions
from .classifier import load as load
from .classifier import networks as networks
from .classifier import save as save
from .description import Description as Description

"""Files that outlast what fails: models, checkpoints, and how they are written."""

from accelnn.storage.files import write_atomically
from accelnn.storage.networks import load_model, load_network, save_model, save_network

__all__ = ["load_model", "load_network", "save_model", "save_network", "write_atomically"]

"""A config file in, a RunConfig out, or everything that is wrong with it at once.

Belongs here: the YAML reader, `RunConfig`, checks across options, `--set`, the JSON schema, and the
first config that `init` writes. Does not belong here: a stage's own options (they are in its
folder), and anything that opens a data file before a run (`scaffold` excepted).
"""

from stackfeat.config.load import LoadedConfig, config_from_dict, load_config
from stackfeat.config.run_config import RunConfig, dump_config, json_schema

__all__ = ["LoadedConfig", "RunConfig", "config_from_dict", "dump_config", "json_schema", "load_config"]

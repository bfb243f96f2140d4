"""The flags that mean the same in everything that can be run, training or not."""

from absl import flags

flags.DEFINE_string("out", None, "folder for what is written [below runs/, named after what is run]")
flags.DEFINE_bool("smoke", False, "a few seconds of everything: shows that it works, measures nothing")

"""Whether a data set is sound: every scan examined, every problem named."""

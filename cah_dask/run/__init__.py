"""The machine around the stages.  config -> manifest -> tasks -> pools -> pipeline."""

"""The core that the commands share: build, train, evaluate, store."""

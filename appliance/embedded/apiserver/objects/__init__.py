"""What is particular about objects: metadata rules, kinds with behaviour of their own, admission."""

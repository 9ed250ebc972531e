"""A terminal inside the deck: ``bittty`` emulates it, these modules say what may pass to and from a sandbox."""

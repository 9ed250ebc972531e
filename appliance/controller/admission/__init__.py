"""The admission webhook that keeps pods of sandboxes from being deleted or evicted behind their backs."""

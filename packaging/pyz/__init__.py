"""The build of ``dist/appliance.pyz``: collect, prune, assemble, measure. Run by ``packaging/build.sh``."""

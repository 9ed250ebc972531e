"""``appliance bundle``: everything an installation needs where nothing can be downloaded, in one tar file.

``pack`` puts the single file, its image, the Helm chart and chosen sandbox images together; ``contents`` is the list of
what is inside with sizes and checksums, and its check; ``load`` brings the images to containerd, Docker, kind or the
box. The bundle's first member is the list, so that a truncated copy still says what it should have been.
"""

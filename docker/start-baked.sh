#!/bin/sh
# The entry point of the image that has its code inside.
set -eu
cd /opt/starter
exec python3 -m live_code --baked "$@"

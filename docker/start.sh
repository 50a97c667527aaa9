#!/bin/sh
# The images' entry point: the starter takes the place of the shell, so that signals reach it.
set -eu
cd /opt/starter
exec python3 -m live_code "$@"

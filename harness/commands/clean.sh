#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Removes what was built and the logs; "all": the sources in the cache too.
# Work trees (work/) are the user's and stay.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"

for base in $(bases); do
	lock 8 "src-$base"
	lock 9 "tree-$base"
	rm -rf "$CACHE/tree/$base"-*
	[ "${1:-}" != all ] || rm -rf "$CACHE/src/$base.origin" "$CACHE/src/$base"
done
[ "${1:-}" != all ] || rm -rf "$CACHE/ccache" "$CACHE/download" "$CACHE/debs" "$CACHE/busybox" "$CACHE/kernel"
lock 9 image
rm -rf "$CACHE/image"
rm -rf "$TOP/out"

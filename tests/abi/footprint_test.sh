#!/bin/sh
# footprint_test.sh <libtelemetry.so> <telemetry.map> <bytes max, 0: any>: the library needs libc
# alone, exports what its map lists and nothing else, and stays small when stripped.
set -eu
library=$1
map=$2
bytes_max=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
if [ "$needed" != libc.so.6 ]; then
  echo "needs more than libc: $needed"
  status=1
fi

soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
if [ "$soname" != libtelemetry.so.0 ]; then
  echo "soname is $soname"
  status=1
fi

nm -D --defined-only "$library" | sed -n 's/.* T \(.*\)@@LIBTELEMETRY_0$/\1/p' | sort > "$work/exported"
sed -n 's/^ *\(telemetry_[a-z_]*\);$/\1/p' "$map" | sort > "$work/listed"
if ! diff "$work/listed" "$work/exported"; then
  echo "exports differ from the map"
  status=1
fi
extra=$(nm -D --defined-only "$library" | grep -v -e '@@LIBTELEMETRY_0$' -e ' A LIBTELEMETRY_0' || true)
if [ -n "$extra" ]; then
  echo "exports without a version: $extra"
  status=1
fi

foreign=$(nm -D --undefined-only "$library" | grep -e ' _Z' -e ' __cxa_[a-eg-z]' -e ' __gxx' || true)
if [ -n "$foreign" ]; then
  echo "needs a C++ runtime: $foreign"
  status=1
fi

strip -o "$work/stripped" "$library"
bytes=$(stat -c %s "$work/stripped")
echo "stripped=$bytes"
if [ "$bytes_max" -gt 0 ] && [ "$bytes" -gt "$bytes_max" ]; then
  echo "more than $bytes_max bytes"
  status=1
fi
exit $status

#!/bin/sh
# One piece of suite `images` on a machine with a GPU that is lent for minutes: the tests
# marked gpu, then runs, until MINUTES (9) are over. Call it again to go on:
#   sh benchmarks/gpu.sh ARCHIVES OUT [EARLIER] [more options of `pieces`]
# ARCHIVES: folder with cifar10_images.tar.xz, or another NAME_images.tar.xz.
# OUT: where results.tar.xz, the tables and the outcome of tests are left.
# EARLIER: results.tar.xz of the call before; - for none.
# JOBS (4) runs go side by side, by PYTHON (python3). Without a network: put wheels of what
# is missing into .wheels (NAME.whl), or installed packages as .wheels/NAME.tar.xz.
set -eu
archives=$1 out=$2 earlier=${3:--}
shift 2; [ $# -gt 0 ] && shift
site=$(mktemp -d) python=${PYTHON:-python3}
for file in .wheels/*.whl; do
  [ -e "$file" ] && "$python" -m pip install -q --no-index --no-deps --target "$site" "$file"
done
for file in .wheels/*.tar.xz; do
  [ -e "$file" ] && tar -xJf "$file" -C "$site"
done
[ "$earlier" = - ] || set -- --earlier "$earlier" "$@"
mkdir -p "$out"
PYTHONPATH="$site:.${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m benchmarks pieces \
  --suite images --device cuda --jobs "${JOBS:-4}" --minutes "${MINUTES:-9}" \
  --archives "$archives" --data-root "$(mktemp -d)" --work "$(mktemp -d)" \
  --tests tests --out "$out" "$@"

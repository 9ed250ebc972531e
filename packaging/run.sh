#!/usr/bin/env bash
# One command from a clean checkout to a running sandbox cloud on this machine. Everything after the options of this
# script is passed on to `appliance --role=all` (see --help there), for example: packaging/run.sh --listen 127.0.0.1:9000
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"

case " $* " in
*" --isolation process "* | *" --isolation=process "*) ;;
*)
    [ "$(id -u)" = 0 ] || die "sandboxes with namespaces, cgroups and their own network need root.
  Start with sudo, or without isolation (sandboxes are then plain processes of yours): packaging/run.sh --isolation process --data-dir ~/.appliance"
    need_programs "${BOX_PROGRAMS[@]}"
    ;;
esac
locked_venv "$ROOT/.venv" "$ROOT/packaging/requirements.lock"
command_shim "$ROOT" "$ROOT/.venv"

case " $* " in *" --pool"*) pool=() ;; *) pool=(--pool 3) ;; esac
exec "$ROOT/.venv/bin/appliance" --role=all "${pool[@]}" "$@"

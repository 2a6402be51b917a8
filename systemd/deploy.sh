#!/usr/bin/env bash
# Puts a new release of Holdfast live, or leaves the old one as it was.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy.sh [OPTION...] NEW_BINARY

Checks NEW_BINARY, installs it as a release of its own, makes it the current one,
reloads the service, and puts the previous release back if the reload fails.

  --root DIR         where the releases are (default /opt/holdfast):
                       DIR/releases/<time>-<checksum>/holdfast
                       DIR/current -> releases/<time>-<checksum>
  --unit NAME        the service to reload (default holdfast.service)
  --user             ask the user's service manager, not the system's
  --check-args ARGS  arguments for `NEW_BINARY check`, separated by blanks
                     (default: --config /etc/holdfast/config.yml if that exists)
  --keep N           how many releases to keep (default 5)
  --help             print this

exit codes:
  0  the new release serves
  1  the service did not take the release; the previous one is back and serves
  2  usage
  3  NEW_BINARY was refused by the checks; nothing was touched
  4  another deploy is running; nothing was touched
  5  the previous release could not be put back, or there is none: look at once
TEXT
}

say() { printf 'deploy: %s\n' "$*"; }
die() { # CODE TEXT...
  local code=$1
  shift
  printf 'deploy: %s\n' "$*" >&2
  exit "$code"
}

root=/opt/holdfast unit=holdfast.service keep=5 new='' check_args=''
manager=(systemctl)
[ -e /etc/holdfast/config.yml ] && check_args='--config /etc/holdfast/config.yml'

while [ $# -gt 0 ]; do
  case $1 in
    --root | --unit | --check-args | --keep)
      [ $# -ge 2 ] || die 2 "$1 needs a value (--help tells more)"
      case $1 in
        --root) root=$2 ;;
        --unit) unit=$2 ;;
        --check-args) check_args=$2 ;;
        --keep) keep=$2 ;;
      esac
      shift 2
      ;;
    --user) manager+=(--user) && shift ;;
    --help | -h) usage && exit 0 ;;
    -*) die 2 "unknown option $1 (--help tells more)" ;;
    *)
      [ -z "$new" ] || die 2 "one binary at a time: $new, $1"
      new=$1
      shift
      ;;
  esac
done
[ -n "$new" ] || die 2 "which binary? (--help tells more)"
[[ $keep =~ ^[1-9][0-9]*$ ]] || die 2 "--keep $keep: want a number from 1"

# One deploy at a time. The lock goes with this process, however it ends.
mkdir -p "$root/releases" || die 3 "$root cannot be made: choose another --root"
exec 9>"$root/.deploy.lock" || die 3 "$root is not writable for this user"
flock --nonblock 9 || die 4 "another deploy is running (it holds $root/.deploy.lock)"

# What a killed run left half done is nobody's: only a finished release has its name.
staging="$root/releases/.new.$$" link="$root/.current.$$"
cleanup() { rm -rf -- "$staging" "$link"; }
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf -- "$root"/releases/.new.* "$root"/.current.*

# Check: on a copy, so that what was checked is what is installed.
[ -f "$new" ] || die 3 "$new does not exist or is not a file"
[ -s "$new" ] || die 3 "$new is empty: was the copy interrupted?"
[ -x "$new" ] || die 3 "$new is not executable: chmod +x it"
mkdir "$staging"
cp -- "$new" "$staging/holdfast"
chmod 0755 "$staging" "$staging/holdfast"
say "checking $new"
# Blanks separate the arguments: they are the unit's, and a unit has no quoting here.
read -r -a args <<<"$check_args"
output=$("$staging/holdfast" check "${args[@]}" 2>&1 9>&-) ||
  die 3 "the release refuses its settings or cannot run here: ${output:-no output}"

# Install.
sum=$(sha256sum "$staging/holdfast")
release="$(date -u +%Y%m%dT%H%M%SZ)-${sum:0:12}"
[ ! -e "$root/releases/$release" ] || release="$release.$$"
sync "$staging/holdfast"
mv -T -- "$staging" "$root/releases/$release"
say "installed as releases/$release"

previous=$(readlink "$root/current" || true)

# point makes a release the current one: rename(2) replaces a link in one step.
point() {
  ln -s -- "$1" "$link"
  mv -T -- "$link" "$root/current"
}

# go_live has the service run what is current; a reload waits and tells the truth.
go_live() {
  if "${manager[@]}" is-active --quiet "$unit" 9>&-; then
    say "reloading $unit"
    "${manager[@]}" reload "$unit" 9>&-
  else
    say "$unit is not running: starting it"
    "${manager[@]}" start "$unit" 9>&-
  fi
}

point "releases/$release"
if go_live; then
  say "release $release serves"
else
  [ -n "$previous" ] || die 5 "the service did not take the release, and there is no previous one to go back to: see journalctl -u $unit"
  say "the service did not take the release: putting ${previous#releases/} back"
  point "$previous" || die 5 "$root/current could not be put back to $previous: do it by hand"
  rm -rf -- "$root/releases/$release"
  # The old process never stopped serving, unless it was not running before.
  if ! "${manager[@]}" is-active --quiet "$unit" 9>&-; then
    "${manager[@]}" start "$unit" 9>&- || die 5 "the previous release does not start either: see journalctl -u $unit"
  fi
  die 1 "release $release failed; ${previous#releases/} is current and serves"
fi

# Keep the newest, and whatever the links point to. Names begin with the time.
mapfile -t all < <(cd "$root/releases" && printf '%s\n' * | sort -r)
for old in "${all[@]:keep}"; do
  case "releases/$old" in
    "$previous" | "releases/$release") continue ;;
  esac
  rm -rf -- "${root:?}/releases/$old"
  say "removed release $old"
done

#!/usr/bin/env bash
# Puts a new release of Holdfast live, or leaves the old one as it was.
#
# A run may end at any command: killed, out of space, without power. So it writes
# down each step before it takes it, and the next run finishes or takes back what it
# finds. A name that begins with a dot is nobody's once the lock is free. Here are the
# options, the checks and the order of things; deploy-switch.sh, which belongs beside
# this file, is the rest.
set -euo pipefail
umask 022

usage() {
  cat <<'TEXT'
usage: deploy.sh [OPTION...] NEW_BINARY
       deploy.sh [OPTION...] --rollback [RELEASE]
       deploy.sh [OPTION...] --list

Checks NEW_BINARY, installs it as a release of its own, makes it the current one,
reloads the service, and returns to the previous release if the service does not
take the new one or the verification fails.

  --rollback          go live with RELEASE, or with what served before the current one
  --list              list the releases
  --dry-run           check NEW_BINARY or RELEASE, say what would be done, change nothing
  --root DIR          where the releases are (default /opt/holdfast):
                        DIR/releases/<time>-<checksum>/holdfast
                        DIR/current -> releases/<time>-<checksum>
  --unit NAME         the service to reload (default holdfast.service)
  --user              ask the user's service manager, not the system's
  --sha256 SUM        what NEW_BINARY must be
  --min-size BYTES    the least that can be a whole binary (default 1048576)
  --check-args ARGS   arguments for `NEW_BINARY check`, separated by blanks
                      (default: --config /etc/holdfast/config.yml if that exists)
  --timeout TIME      for `check`, and for the service to start or reload (default 3m)
  --verify-for TIME   watch the release that long once it serves, and judge it by the
                      service's rules (`RELEASE/holdfast verify`)
  --pid-file PATH     the service's PID file, for that (default /run/holdfast/holdfast.pid)
  --verify-command CMD
                      a shell command that judges the release once it serves; if it fails,
                      the previous release is put back and the service reloaded again.
                      $RELEASE and $PREVIOUS are the folders of the two, $UNIT the service
  --verify-timeout TIME
                      after which CMD is killed and has failed (default 10m)
  --keep N            how many releases to keep (default 5)
  --help              print this

TIME is a number of seconds, or one with s, m or h.

exit codes:
  0  the release serves
  1  the service did not take the release; the previous one is current and serves
  2  usage
  3  the release was refused by the checks; the service was not touched
  4  another deploy is running; nothing was touched
  5  the previous release could not be put back, or there is none, or a command
     failed that never should: look at once
  6  the release went live and failed; the previous one was put back and serves
  129, 130, 143  ended by a signal; what serves is current

Each step is noted in DIR/.deploy.state before it is taken. After a run that was
killed, even by SIGKILL, the next one first waits until the service is not changing
any more and then asks which release it runs:
  the new one          it stays current, although nobody knows whether it is good
  another one          that one is current again, and the new one is removed
  none, or unknown     the previous one is current again; but an unknown one that
                       had been asked to reload keeps the link as it is
  the return had begun it is completed, with a reload if the service needs it
TEXT
}

# Progress is for people and logs: that nobody reads it any more ends no deploy.
out() {
  # shellcheck disable=SC2059 # the callers' formats are constants
  printf "$@" 2>/dev/null || :
}
now() { date +%s%3N; }
took() { # SINCE
  local ms=$(($(now) - $1))
  printf '%d.%02d s' $((ms / 1000)) $((ms % 1000 / 10))
}
open='' began=0 told=''
step() { # TEXT: a step begins; the line is completed with the time it took
  ends
  out 'deploy: %s ...' "$*"
  began=$(now) open=1
}
aloud() { # what follows may print
  out '\n'
  open=2
}
ends() {
  [ -n "$open" ] || return 0
  [ "$open" = 1 ] || out 'deploy: ...'
  out ' %s\n' "$(took "$began")"
  open=''
}
say() {
  ends
  out 'deploy: %s\n' "$*"
}
die() { # CODE TEXT...
  local code=$1
  shift
  ends
  printf 'deploy: %s\n' "$*" >&2 || :
  told=1
  exit "$code"
}
seconds() {
  local unit=1
  [[ $1 =~ ^0*([1-9][0-9]{0,6})([smh]?)$ ]] || die 2 "$1 is not a time: want 90, 90s, 5m or 1h"
  case ${BASH_REMATCH[2]} in m) unit=60 ;; h) unit=3600 ;; esac
  echo $((BASH_REMATCH[1] * unit))
}

started=$(now)
root=/opt/holdfast unit=holdfast.service keep=5 new='' check_args='' sum='' min_size=1048576
timeout=3m verify='' verify_for='' pid_file=/run/holdfast/holdfast.pid verify_timeout=10m mode=deploy dry=''
manager=(systemctl)
[ -e /etc/holdfast/config.yml ] && check_args='--config /etc/holdfast/config.yml'

while [ $# -gt 0 ]; do
  case $1 in
    --root | --unit | --check-args | --keep | --sha256 | --min-size | --timeout | --verify-for | --pid-file | --verify-command | --verify-timeout)
      [ $# -ge 2 ] || die 2 "$1 needs a value (--help tells more)"
      case $1 in
        --root) root=$2 ;;
        --unit) unit=$2 ;;
        --check-args) check_args=$2 ;;
        --keep) keep=$2 ;;
        --sha256) sum=${2,,} ;;
        --min-size) min_size=$2 ;;
        --timeout) timeout=$2 ;;
        --verify-for) verify_for=$2 ;;
        --pid-file) pid_file=$2 ;;
        --verify-command) verify=$2 ;;
        --verify-timeout) verify_timeout=$2 ;;
      esac
      shift 2
      ;;
    --rollback | --list)
      [ "$mode" = deploy ] || die 2 "--$mode and $1: one at a time"
      mode=${1#--} && shift
      ;;
    --dry-run) dry=1 && shift ;;
    --user) manager+=(--user) && shift ;;
    --help | -h) usage && exit 0 ;;
    -*) die 2 "unknown option $1 (--help tells more)" ;;
    *)
      [ -z "$new" ] || die 2 "one at a time: $new, $1"
      new=$1
      shift
      ;;
  esac
done
case $mode in
  deploy) [ -n "$new" ] || die 2 "which binary? (--help tells more)" ;;
  rollback)
    [ -z "$sum" ] || die 2 "--sha256 is for a new binary"
    case $new in */* | .*) die 2 "--rollback takes the name of a release (--list)" ;; esac
    ;;
  list) [ -z "$new" ] || die 2 "--list takes no file" ;;
esac
[[ $keep =~ ^[1-9][0-9]*$ ]] || die 2 "--keep $keep: want a number from 1"
[[ $min_size =~ ^(0|[1-9][0-9]*)$ ]] || die 2 "--min-size $min_size: want a number of bytes"
[[ -z $sum || $sum =~ ^[0-9a-f]{64}$ ]] || die 2 "--sha256 $sum: want 64 hexadecimal digits"
timeout=$(seconds "$timeout")
verify_timeout=$(seconds "$verify_timeout")
if [ -n "$verify_for" ]; then
  [ -z "$verify" ] || die 2 "--verify-for and --verify-command: one of them"
  verify_for=$(seconds "$verify_for")
  [ "$verify_for" -lt "$verify_timeout" ] || die 2 "--verify-for must be less than --verify-timeout ($verify_timeout s)"
  # shellcheck disable=SC2016 # it runs in a shell of its own, which is given $RELEASE
  printf -v verify '"$RELEASE/holdfast" verify --for %ss --pid-file %q' "$verify_for" "$pid_file"
fi
root=$(realpath -m -- "$root")
staging="$root/releases/.new.$$" lock="$root/.deploy.lock"
switch="$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/deploy-switch.sh"
[ -r "$switch" ] || die 2 "$switch is missing: it belongs beside this file"
# shellcheck source-path=SCRIPTDIR source=deploy-switch.sh
. "$switch"

mib() { echo "$((($1 + 52428) / 104857 / 10)).$((($1 + 52428) / 104857 % 10)) MiB"; }

if [ "$mode" = list ]; then
  recall
  serves=$(served) serving=$(current)
  [ "$at" = ended ] || say "the run of $since, pid $pid, is at '$at' of ${release#releases/}, or was killed there"
  for dir in "$root"/releases/*/; do
    [ -f "$dir/holdfast" ] || continue
    name=${dir%/} name=releases/${name##*/} marks=''
    [ "$name" != "$serving" ] || marks+=' current'
    [ "$name" != "$previous" ] || [ "$name" = "$serving" ] || marks+=' previous'
    [ "$name" != "$serves" ] || marks+=' serves'
    printf '%-34s %10s  %s %s\n' "${name#releases/}" "$(mib "$(stat -c %s "$dir/holdfast")")" "$(date -u -r "$dir/holdfast" '+%F %T UTC')" "$marks"
  done
  exit 0
fi

# What can be refused without touching anything is refused first.
if [ "$mode" = deploy ]; then
  [ -f "$new" ] || die 3 "$new does not exist or is not a file"
  [ -s "$new" ] || die 3 "$new is empty: was the copy interrupted?"
  [ -x "$new" ] || die 3 "$new is not executable: chmod +x it"
  size=$(stat -L -c %s -- "$new")
  [ "$size" -ge "$min_size" ] || die 3 "$new has $size bytes, a binary has at least $min_size (--min-size): was the copy interrupted?"
fi
[ -L "$root/current" ] || [ ! -e "$root/current" ] || die 3 "$root/current is not a symlink: move it away, with the service still running"

# One deploy at a time. The lock goes with this process and the files it works on,
# however it ends. Who holds it is in the file.
busy() {
  local who='' when=''
  read -r who when <"$lock" || :
  [ -d "/proc/${who:-none}" ] || who="${who:-unknown}, which is gone; a command of it still runs"
  die 4 "another deploy is running: pid $who, since ${when:-just now} (it holds $lock)"
}
if [ -n "$dry" ]; then
  read -r holder _ 2>/dev/null <"$lock" || holder=none
  [ ! "/proc/$holder/fd/9" -ef "$lock" ] || busy
else
  [ "$mode" = deploy ] || [ -d "$root/releases" ] || die 3 "$root has no releases"
  mkdir -p -- "$root/releases" || die 3 "$root cannot be made: choose another --root"
  { exec 9>>"$lock"; } 2>/dev/null || die 3 "$root is not writable: is the file system read-only, or this the wrong user?"
  flock --nonblock 9 || busy
  { : >"$lock" && echo "$$ $(date -u +%FT%TZ)" >&9; } 2>/dev/null || die 3 "$root is full or not writable"
fi
recall

if [ -z "$dry" ]; then
  finish() {
    local code=$?
    set +e
    [ -z "$child" ] || kill "$child" 2>/dev/null
    rm -rf -- "$staging" "$link"
    # A signal, or a command that nobody expected to fail.
    [ "$code" = 0 ] || [ -n "$told" ] || repair
    [ "$code" != 1 ] || [ -n "$told" ] || code=5
    exit "$code"
  }
  trap finish EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap : PIPE
  shopt -s nullglob
  left=("$root"/releases/.new.* "$root"/releases/.old.* "$root"/.current.* "$root"/.deploy.state.*)
  shopt -u nullglob
  if [ ${#left[@]} -gt 0 ]; then
    rm -rf -- "${left[@]}"
    say "removed what an ended run has left: ${left[*]#"$root/"}"
  fi
  repair || die 5 "what that run has left could not be put in order"
elif [ "$at" != ended ]; then
  say "the run of $since, pid $pid, ended during '$at' of ${release#releases/}: that would be put in order first"
fi

# An ELF file says what it is for: class, byte order, machine (elf(5)). This shell's
# own says what this machine is.
elf() { od -An -v -tx1 -N20 -- "$1" | tr -d ' \n'; }
machine() {
  case ${1:8:4}${1:36:4} in
    02013e00) echo amd64 ;;
    01010300) echo 386 ;;
    0201b700) echo arm64 ;;
    01012800) echo arm ;;
    0201f300) echo riscv64 ;;
    02011500) echo ppc64le ;;
    02020016) echo s390x ;;
    02010201) echo loong64 ;;
    *) echo "ELF ${1:8:4}/${1:36:4}" ;;
  esac
}
check() { # BINARY NAME
  local header output args
  header=$(elf "$1")
  [ "${header:0:8}" = 7f454c46 ] || die 3 "$2 is not a program for Linux (it is no ELF file)"
  [ "$(machine "$header")" = "$(machine "$(elf /proc/$$/exe)")" ] ||
    die 3 "$2 is for $(machine "$header"), this machine is $(machine "$(elf /proc/$$/exe)")"
  step "check $2"
  # Blanks separate the arguments: they are the unit's, and a unit has no quoting here.
  read -r -a args <<<"$check_args"
  output=$(timeout --foreground --kill-after=5 "$timeout" "$1" check "${args[@]}" 2>&1 9>&-) ||
    die 3 "the release refuses its settings or cannot run here: ${output:-no output, exit code $?}"
}
compare() { # FILE
  local is
  is=$(sha256sum <"$1")
  is=${is%% *}
  [ -z "$sum" ] || [ "$sum" = "$is" ] || die 3 "$new has the SHA-256 $is, not $sum"
  sum=$is
}

serving=$(current)
if [ "$mode" = rollback ]; then
  target=${new:+releases/$new}
  target=${target:-$previous}
  [ -n "$target" ] || die 3 "no previous release is known: name one (--list)"
  [ "$target" != "$serving" ] || die 3 "${target#releases/} is current already"
  [ -x "$(at_root "$target")/holdfast" ] || die 3 "there is no release ${target#releases/} (--list)"
  check "$(at_root "$target")/holdfast" "${target#releases/}"
else
  # Room for the copy, and a little for what is written beside it.
  place="$root/releases"
  while [ ! -d "$place" ]; do place=$(dirname -- "$place"); done
  free=$(df --output=avail -B1 -- "$place" | tail -n 1)
  [ "$free" -ge $((size + 262144)) ] || die 3 "$root has $(mib "$free") free, $new needs $(mib "$size"): make room"
  if [ -n "$dry" ]; then
    compare "$new"
    check "$new" "$new"
  else
    # A copy is checked, so that what was checked is what is installed.
    step "copy $new, $(mib "$size")"
    mkdir -- "$staging" || die 3 "$root/releases is not writable"
    cp -- "$new" "$staging/holdfast" || die 3 "$new could not be copied to $root"
    compare "$staging/holdfast"
    [ "$(stat -c %s "$staging/holdfast")" = "$(stat -L -c %s -- "$new")" ] || die 3 "$new has changed while it was copied: does its upload still run?"
    chmod 0755 "$staging" "$staging/holdfast"
    check "$staging/holdfast" "$new"
  fi
  # To the millisecond: the names are the order of the releases.
  target="releases/$(date -u +%Y%m%dT%H%M%S.%3NZ)-${sum:0:12}"
  [ ! -e "$root/$target" ] || target="$target.$$"
fi

if [ -n "$dry" ]; then
  [ "$mode" = rollback ] || say "would install $target"
  say "would point current to $target (now: ${serving:-nothing})"
  if alive; then say "would reload $unit"; else say "would start $unit"; fi
  [ -z "$verify" ] || say "would verify with: $verify"
  say "nothing was changed"
  exit 0
fi

kind=$mode release=$target earlier=$previous previous=$serving failed=''
if [ "$mode" = deploy ]; then
  step "install $release"
  { sync -- "$staging/holdfast" && journal install && mv -T -- "$staging" "$root/$release" && sync -- "$root/releases"; } ||
    { discard "$release" && release=$previous previous=$earlier && journal ended; die 3 "$target could not be installed"; }
fi
step "point current to $release"
if ! { journal swap && point "$release" && journal reload && go_live && judge; }; then
  failed=$at
  if [ -z "$previous" ]; then
    journal ended || :
    die 5 "$release failed, and there is no previous one to go back to: see journalctl -u $unit"
  fi
  say "$release failed during '$failed': putting $previous back"
  give_back || die 5 "the previous release could not be put back; current is $(readlink "$root/current"): see journalctl -u $unit"
  [ -z "$live" ] || die 6 "$target went live and failed; $release is current and serves again"
  die 1 "$target failed; $release is current and serves"
fi
journal ended || say "that could not be noted: the next run will find it out"
say "$release serves; $(took "$started") in all"

# Keep the newest, and what can be returned to. Names begin with the time.
mapfile -t all < <(cd "$root/releases" && printf '%s\n' [0-9]*T*Z-* | LC_ALL=C sort -r)
for old in "${all[@]:keep}"; do
  case "releases/$old" in "$previous" | "$release") continue ;; esac
  if discard "releases/$old"; then say "removed release $old"; else say "release $old could not be removed"; fi
done

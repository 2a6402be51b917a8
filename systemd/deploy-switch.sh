# shellcheck shell=bash
# What deploy.sh is built of: the journal, the link, the service, the return to the
# previous release, and the repair of what a run has left that did not come to its end.
# It is sourced, with the options in root, unit, manager, timeout, verify.
# shellcheck disable=SC2154 # those are assigned there

link="$root/.current.$$" state="$root/.deploy.state"

# What the last run was at. step: ended, or what was about to happen: install, swap,
# reload, verify, back. release: what is to be current. previous: what was current
# before. earlier: what was before that, for a return to restore. failed: which step
# a return is for. Releases are named as in the link: releases/NAME.
at=ended kind=deploy release='' previous='' earlier='' failed='' pid='' since=''
recall() {
  local key value
  [ -f "$state" ] || return 0
  while IFS='=' read -r key value; do
    case $key in
      step) at=$value ;;
      kind) kind=$value ;;
      release) release=$value ;;
      previous) previous=$value ;;
      earlier) earlier=$value ;;
      failed) failed=$value ;;
      pid) pid=$value ;;
      since) since=$value ;;
    esac
  done <"$state"
}
journal() { # STEP: about to be taken
  at=$1 pid=$$ since=$(date -u +%FT%TZ)
  printf '%s\n' "step=$at" "kind=$kind" "release=$release" "previous=$previous" "earlier=$earlier" \
    "failed=$failed" "pid=$pid" "since=$since" >"$state.new" &&
    sync -- "$state.new" && mv -fT -- "$state.new" "$state"
}

current() { # what the link says, if that exists
  local to
  to=$(readlink -- "$root/current") || return 0
  to=${to#"$root/"} to=${to%/}
  [ ! -x "$(at_root "$to")/holdfast" ] || echo "$to"
}
at_root() { case $1 in /*) echo "$1" ;; *) echo "$root/$1" ;; esac }

# point makes a release the current one: rename(2) replaces a link in one step, and
# the new link is in the same folder, so on the same file system.
point() { [ "$(current)" = "$1" ] || { ln -sfT -- "$1" "$link" && mv -fT -- "$link" "$root/current" && sync -- "$root"; }; }

# discard removes a release under a name that says so, lest a half be taken for a whole.
discard() { # releases/NAME
  local old=$root/releases/.old.${1#releases/}
  [[ $1 = releases/?* && -e $root/$1 ]] || return 0
  mv -fT -- "$root/$1" "$old" && rm -rf -- "$old"
}

# The service.
child=''
run() { # in the background: wait is left at once when a signal comes
  local code=0
  "$@" 9>&- &
  child=$!
  wait "$child" || code=$?
  child=''
  return "$code"
}
alive() { "${manager[@]}" is-active --quiet "$unit" 9>&-; }

# served prints the release whose binary the main process runs; nothing if there is
# none or it is hidden from this user. It compares files, not names: the service may
# see others.
served() {
  local main name
  main=$("${manager[@]}" show --value -p MainPID "$unit" 9>&-) || return 0
  [ "${main:-0}" != 0 ] || return 0
  for name in "$(current)" "$previous" "$root"/releases/*; do
    name=${name#"$root/"}
    if [ -n "$name" ] && [ "/proc/$main/exe" -ef "$(at_root "$name")/holdfast" ]; then
      echo "$name"
      return 0
    fi
  done
}

# settle waits until the service is not changing: what it runs then is the answer.
settle() {
  local until=$((SECONDS + timeout)) now
  while now=$("${manager[@]}" show -p Job -p ActiveState -p SubState "$unit" 9>&-); do
    case $now in
      *Job=[1-9]*) ;;
      *SubState=auto-restart*) return 0 ;;
      *ActiveState=active* | *ActiveState=inactive* | *ActiveState=failed*) return 0 ;;
    esac
    [ "$SECONDS" -lt "$until" ] || break
    sleep 0.1 9>&-
  done
  return 1
}

# go_live has the service run what is current; a reload waits and tells the truth.
go_live() {
  local verb=reload
  alive || verb=start
  step "$verb $unit"
  aloud
  run timeout --kill-after=5 "$timeout" "${manager[@]}" "$verb" "$unit" && ends
}

# judge asks who serves, and then whatever the operator wants asked.
judge() {
  local runs
  runs=$(served)
  [ -z "$runs" ] || [ "$runs" = "$release" ] || { say "$unit still runs ${runs#releases/}" && return 1; }
  [ -n "$verify" ] || return 0
  step "verify: $verify"
  aloud
  journal verify &&
    RELEASE=$(at_root "$release") PREVIOUS=${previous:+$(at_root "$previous")} UNIT=$unit \
      run timeout --kill-after=5 "$verify_timeout" bash -c "$verify" && ends
}

# give_back has the previous release serve again. A service that never left it is
# not reloaded.
live=''
give_back() {
  local runs
  [ "$failed" != verify ] || live=1
  journal back || : # a full disk does not keep the link from being put back
  { point "$previous" && settle; } || return 1
  runs=$(served)
  [ "$runs" != "$release" ] || live=1
  if ! alive || { [ "$runs" != "$previous" ] && [ -n "$runs$live" ]; }; then
    go_live || return 1
    runs=$(served)
  fi
  [ -z "$runs" ] || [ "$runs" = "$previous" ] || return 1
  [ "$kind" != deploy ] || discard "$release"
  release=$previous previous=$earlier failed=''
  journal ended || say "that could not be noted: the next run will find it out"
}

# repair makes the state consistent that a run has left which did not come to its end.
repair() {
  local runs why=serves name=${release#releases/}
  [ "$at" != ended ] || return 0
  say "the run of pid $pid ended during '$at' of $name, $since"
  settle || say "$unit is still changing: what it runs may not be its last word"
  if [ "$at" = back ]; then
    say "completing its return to ${previous#releases/}"
    give_back || say "that did not succeed (see journalctl -u $unit); going on"
    return 0
  fi
  runs=$(served)
  if [ -z "$runs" ]; then
    runs=$previous why='served before'
    case $at in reload | verify) ! alive || runs=$(current) why='was current' ;; esac
  fi
  if [ -z "$runs" ]; then
    say "nothing serves, and nothing did before: $name is removed"
    rm -f -- "$root/current" || return 1
    [ "$kind" != deploy ] || discard "$release" || return 1
    release=''
  elif [ "$runs" = "$release" ]; then
    say "$name $why and stays current; whether it is good was not yet known${previous:+ (before: ${previous#releases/})}"
    point "$release" || return 1
  else
    point "$runs" || return 1
    [ "$kind" != deploy ] || discard "$release" || return 1
    say "${runs#releases/} $why and is current; $name is not"
    [ "$runs" != "$previous" ] || previous=$earlier
    release=$runs
  fi
  journal ended
}

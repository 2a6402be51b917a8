#!/usr/bin/env bash
# Runs a command beside a systemd of its own.
#
#   manager.sh DIR COMMAND [ARG...]
#
# The manager is the real `systemd --user`, in fresh namespaces for mounts, pids,
# network, IPC, host name and cgroups, so that nothing of the machine is touched and
# several can run side by side. It reads its units from DIR/units and logs to
# DIR/manager.log. COMMAND runs in the same namespaces, once the manager is up, with
# XDG_RUNTIME_DIR set; its output is this script's, and so is its exit code. When it
# ends, everything in the namespaces is killed.
#
# It needs root. What is below avoids, in this order: a manager that believes that it
# is not on a systemd machine (it looks for /run/systemd/system); one that writes to
# the machine's cgroups or console; generators and units of the machine, some of which
# clean /tmp; and a bash that is waited for by a manager that waits for it.
set -euo pipefail

if [ "${1-}" != --inside ]; then
  dir=$(realpath "$1")
  shift
  groups=()
  for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
      mkdir "$hierarchy/holdfast-test-$$"
      groups+=("$hierarchy/holdfast-test-$$")
    fi
  done
  child=
  # shellcheck disable=SC2317 # called by the trap
  finish() {
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    wait 2>/dev/null || true
    # The kernel takes a moment to bury the namespace's last processes.
    for _ in {1..100}; do
      find "${groups[@]}" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.05
    done
  }
  trap finish EXIT
  (
    for group in "${groups[@]}"; do echo 0 >"$group/cgroup.procs"; done
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
      --net --ipc --uts --cgroup -- "$BASH" "$0" --inside "$dir" "$@"
  ) &
  child=$!
  wait "$child" || true # its end is that of the manager; the command's code is in a file
  exit "$(cat "$dir/exit" 2>/dev/null || echo 125)"
fi

dir=$2
shift 2
[ $$ = 1 ] || { echo "manager.sh: not in a pid namespace of its own" >&2; exit 125; }
ip link set lo up

# The machine's /run, without its sockets.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/targets /run/user/0
chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0
unset DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET

# Only the manager's own cgroups, as the unified hierarchy.
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The manager logs to the kernel's ring; here that is a pipe into a file.
mkfifo /run/kmsg
exec 8<>/run/kmsg
mount --bind /run/kmsg /dev/kmsg
cat <&8 >"$dir/manager.log" &

# Of the machine's units only targets, which do nothing.
for target in basic default exit paths shutdown sockets timers; do
  cp -L "/usr/lib/systemd/user/$target.target" /run/targets/
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >/run/targets/holdfast-test.target

(
  exec 8>&-
  code=125
  for _ in {1..200}; do
    # "degraded" and "running" both mean that it is up.
    case $(systemctl --user is-system-running 2>/dev/null || true) in
      running | degraded)
        code=0
        "$@" || code=$?
        break
        ;;
    esac
    sleep 0.05
  done
  [ $code != 125 ] || echo "manager.sh: the manager did not come up, see $dir/manager.log" >&2
  echo "$code" >"$dir/exit.new"
  mv "$dir/exit.new" "$dir/exit"
  kill -KILL 2>/dev/null "$(cat /run/manager.pid)" || true
) </dev/null &

# %S is below the user's configuration until systemd 254, later a place of its own.
export XDG_CONFIG_HOME="$dir/home" XDG_STATE_HOME="$dir/home"

# Not exec: as pid 1 a --user manager refuses to run.
env container=holdfast-test SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent \
  SYSTEMD_UNIT_PATH="$dir/units:/run/targets" \
  /lib/systemd/systemd --user --unit=holdfast-test.target --log-target=kmsg 8>&- </dev/null &
echo $! >/run/manager.pid
{ wait "$(cat /run/manager.pid)" || true; } 2>/dev/null # says "Killed" otherwise

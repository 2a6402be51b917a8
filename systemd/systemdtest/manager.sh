#!/usr/bin/env bash
# Runs a command beside a systemd of its own.
#
#   manager.sh user|system DIR COMMAND [ARG...]
#
# The manager is the real one, `systemd --user` or `systemd --system`, in fresh
# namespaces for mounts, pids, network, IPC, host name and cgroups, so that nothing of
# the machine is touched and several can run side by side. It reads its units from
# DIR/units and logs to DIR/manager.log. COMMAND runs in the same namespaces, once the
# manager is up; its output is this script's, and so is its exit code. When it ends,
# everything in the namespaces is killed. It has HOLDFAST_SYSTEMDTEST_DIR, the path of
# DIR in there, and beside a user's manager XDG_RUNTIME_DIR.
#
# A system manager is process 1, and has an /etc, /opt, /tmp and /var of its own to
# write to; there is a user and a group "holdfast". What it lacks of a machine: the
# journal and D-Bus; controllers for its cgroups, so that limits of memory or tasks are
# not enforced; and /proc/sys is read-only, for much of that is the machine's.
#
# It needs root. What is below avoids, in this order: a manager that believes that it
# is not on a systemd machine (it looks for /run/systemd/system); one that writes to
# the machine's cgroups, files, kernel settings or console; generators and units of the
# machine, some of which clean /tmp; and a bash that is waited for by a manager that
# waits for it.
set -euo pipefail

if [ "${1-}" != --inside ]; then
  mode=$1
  dir=$(realpath "$2")
  shift 2
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
  # Nobody inside can end a system manager: its end, or that of the command, comes
  # through a pipe that the namespaces' first process holds.
  rm -f "$dir/done" "$dir/exit"
  mkfifo "$dir/done"
  (
    for group in "${groups[@]}"; do echo 0 >"$group/cgroup.procs"; done
    exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
      --net --ipc --uts --cgroup -- "$BASH" "$0" --inside "$mode" "$dir" "$@" 7>"$dir/done"
  ) &
  child=$!
  read -r _ <"$dir/done" || true
  exit "$(cat "$dir/exit" 2>/dev/null || echo 125)"
fi

mode=$2
dir=$3
shift 3
[ $$ = 1 ] || { echo "manager.sh: not in a pid namespace of its own" >&2; exit 125; }
ip link set lo up

# The machine's /run, without its sockets, and the test's directory at a place that
# every user may go to and no private /tmp hides.
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/test
mount --bind "$dir" /mnt/test
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/targets /run/user/0 /run/holdfast-test
chmod 700 /run/user/0
unset DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET XDG_RUNTIME_DIR

# Only the manager's own cgroups, as the unified hierarchy.
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The manager logs to the kernel's ring; here that is a pipe into a file.
mkfifo /run/kmsg
exec 8<>/run/kmsg
mount --bind /run/kmsg /dev/kmsg
cat <&8 >"$dir/manager.log" 7>&- &

units=/usr/lib/systemd/$mode
case $mode in
  user)
    mount --bind "$dir" /run/holdfast-test
    export XDG_RUNTIME_DIR=/run/user/0
    # %S is below the user's configuration until systemd 254, later a place of its own.
    export XDG_CONFIG_HOME="$dir/home" XDG_STATE_HOME="$dir/home"
    ;;
  system)
    mount --move /mnt/test /run/holdfast-test
    cp -a /etc /run/etc
    mount --bind /run/etc /etc
    sed -i '/^holdfast:/d' /etc/passwd /etc/group
    echo 'holdfast:x:64321:64321::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
    echo 'holdfast:x:64321:' >>/etc/group
    # The test's own binary is below /tmp.
    touch /run/command
    mount --bind "$1" /run/command
    shift
    set -- /run/command "$@"
    for place in /opt /tmp /var/tmp /var/lib /var/cache /var/log; do
      mkdir -p "$place"
      mount -t tmpfs -o mode=1777 tmpfs "$place"
    done
    chmod 755 /opt
    mount --bind /proc/sys /proc/sys
    mount -o remount,ro,bind /proc/sys
    dir=/run/holdfast-test
    cd /
    ;;
esac
umount -l /mnt
export HOLDFAST_SYSTEMDTEST_DIR=$dir

# Of the machine's units only targets, which do nothing, and the slices of them.
for target in basic sysinit default exit local-fs network paths shutdown slices sockets timers umount; do
  [ ! -e "$units/$target.target" ] || cp -L "$units/$target.target" /run/targets/
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >/run/targets/holdfast-test.target

(
  exec 8>&-
  code=125
  for _ in {1..200}; do
    # "degraded" and "running" both mean that it is up.
    case $(systemctl "--$mode" is-system-running 2>/dev/null || true) in
      running | degraded)
        code=0
        "$@" 7>&- || code=$?
        break
        ;;
    esac
    sleep 0.05
  done
  [ $code != 125 ] || echo "manager.sh: the manager did not come up, see manager.log" >&2
  echo "$code" >"$dir/exit"
  echo >&7
) </dev/null &

manager=(env container=holdfast-test SYSTEMD_GENERATOR_PATH=/nonexistent
  SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent SYSTEMD_UNIT_PATH="$dir/units:/run/targets"
  /lib/systemd/systemd "--$mode" --unit=holdfast-test.target --log-target=kmsg)
if [ "$mode" = system ]; then
  exec "${manager[@]}" 7>&- 8>&- </dev/null
fi
# Not exec: as pid 1 a --user manager refuses to run.
"${manager[@]}" 7>&- 8>&- </dev/null

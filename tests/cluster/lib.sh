# The lab's settings, and the functions its scripts share. Sourced, not run.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=${NETPATH_LAB:-/var/tmp/netpath-lab} # caches and state
BIN=$LAB/bin                             # what `build` made: binaries,
CNI_BIN=$LAB/cni                         #   CNI plugins,
IMAGES=$LAB/images                       #   archives of images
RUN=$LAB/run                             # state of the running cluster; `down` removes it

# with FAMILY...: the ranges of a cluster of these address families, of which the first is that of an object that does not say.
declare -A POD_CIDRS=([ipv4]=10.244.0.0/16 [ipv6]=fd00:10:244::/56)
declare -A SERVICE_CIDRS=([ipv4]=10.96.0.0/16 [ipv6]=fd00:10:96::/112)
declare -A API_IPS=([ipv4]=10.96.0.1 [ipv6]=fd00:10:96::1)
declare -A DNS_IPS=([ipv4]=10.96.0.10 [ipv6]=fd00:10:96::a)
with() {
  local f
  FAMILIES=("$@")
  POD_CIDR=$(for f; do echo "${POD_CIDRS[$f]}"; done | paste -sd,)
  SERVICE_CIDR=$(for f; do echo "${SERVICE_CIDRS[$f]}"; done | paste -sd,)
  DNS_IP=${DNS_IPS[$1]}
}
# shellcheck disable=SC2046 # words
with $(cat "$RUN/families" 2>/dev/null || echo ipv4)
REPO=lab.local # images are lab.local/NAME:lab; nothing is ever pulled

# The lab's own cluster, whatever $KUBECONFIG says: by hand nobody should hit a cluster that is not meant. What tests
# another cluster is told its kubeconfig in $NETPATH_CLUSTER.
export KUBECONFIG=${NETPATH_CLUSTER:-$RUN/kubeconfig}
export PATH=$BIN:$PATH

say() { echo "[$(date +%T)] $*" >&2; }
die() { say "error: $*"; exit 1; }

# Addresses of the underlay, which has both families, unless `up --alone` was asked for. Host 0 is the client (kubectl, tests), hosts 1.. are the nodes.
#   l2: one subnet on a bridge.   l3: a subnet for each host, joined by a router.
underlay() { cat "$RUN/underlay"; }
links() { cat "$RUN/links"; } # "ipv4 ipv6"
# addr_of FAMILY N: its address; addr_of FAMILY N later: one that it may change to.
addr_of() {
  local net=50 host=$((10 + $2))
  [ "$(underlay)" = l2 ] || net=$((50 + $2)) host=10
  [ "${3:-}" != later ] || host=$((host + 100))
  [ "$1" = ipv6 ] && echo "fd00:$net::$host" || echo "192.168.$net.$host"
}
# addr N [later]: of the cluster's first family.
addr() { addr_of "${FAMILIES[0]}" "$@"; }
# addrs N [later]: of each of the cluster's families, with commas.
addrs() { for f in "${FAMILIES[@]}"; do addr_of "$f" "$@"; done | paste -sd,; }
gateway_of() {
  local net=50
  [ "$(underlay)" = l2 ] || net=$((50 + $2))
  [ "$1" = ipv6 ] && echo "fd00:$net::1" || echo "192.168.$net.1"
}
prefix_of() { [ "$1" = ipv6 ] && echo 64 || echo 24; }
# host ADDRESS: as it stands before a port.
host() { [[ $1 = *:* ]] && echo "[$1]" || echo "$1"; }
netns() { [ "$1" = 0 ] && echo np-client || echo "np-n$1"; }
nodes() { cat "$RUN/nodes"; } # "1 2 3"

# Nobody else can have these addresses: IPv6 need not look for one before they are used.
at_once() { [ "$1" = ipv4 ] || echo nodad; }
# settle_in FAMILY HOST [later]: that host's address, on its link.
settle_in() { ip -n "$(netns "$2")" addr add "$(addr_of "$@")/$(prefix_of "$1")" dev eth0 $(at_once "$1"); }
# offer_gateway FAMILY HOST DEVICE: that host's gateway's address, on a device of the fabric.
offer_gateway() { ip -n np-fabric addr add "$(gateway_of "$1" "$2")/$(prefix_of "$1")" dev "$3" $(at_once "$1"); }

# plug HOST: a network namespace of that host, and its link to the fabric.
plug() {
  local ns f
  ns=$(netns "$1")
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip -n "$ns" link add eth0 type veth peer name "h$1" netns np-fabric
  for f in $(links); do settle_in "$f" "$1"; done
  ip -n "$ns" link set eth0 up
  if [ "$(underlay)" = l2 ]; then
    ip -n np-fabric link set "h$1" master br0
  else
    for f in $(links); do offer_gateway "$f" "$1" "h$1"; done
  fi
  ip -n np-fabric link set "h$1" up
  for f in $(links); do ip -n "$ns" route add default via "$(gateway_of "$f" "$1")"; done
  ip netns exec "$ns" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# boot N: node N's namespaces, in the network namespace that it was plugged into, and its cgroup. Nothing runs in it yet.
boot() {
  local dir=$RUN/n$1 unshare_pid
  # The node's cgroup is a child of this shell's own, in every hierarchy.
  (
    while IFS=: read -r _ controller path; do
      controller=${controller#name=}
      cg=/sys/fs/cgroup/${controller:-unified}${path%/}
      for d in netpath-lab "n$1"; do
        cg=$cg/$d
        mkdir -p "$cg"
        echo "$cg" >>"$RUN/cgroups"
        if [ "$controller" = cpuset ]; then
          for f in cpuset.cpus cpuset.mems; do cat "$cg/../$f" >"$cg/$f"; done
        fi
      done
      echo 0 >"$cg/cgroup.procs"
    done </proc/self/cgroup
    exec nsenter --net="/run/netns/$(netns "$1")" \
      unshare --mount --uts --ipc --pid --cgroup --fork --propagation private \
      "$HERE/node-init" "$1" "$dir/root"
  ) </dev/null >>"$dir/init.log" 2>&1 &
  unshare_pid=$!
  # By name: before it there are others of that shell.
  wait_for 10 pgrep -P $unshare_pid -f "node-init $1 "
  pgrep -P $unshare_pid -f "node-init $1 " >"$dir/pid"
  wait_for 10 on "$1" test -e /run/lab/ready
}

# crash N: end node N at once, as a loss of power does. Its disk stays; `plug` and `boot` start it again.
crash() {
  local pid
  pid=$(cat "$RUN/n$1/pid")
  kill -9 "$pid"
  while [ -e "/proc/$pid" ]; do sleep 0.1; done
  ip -n np-fabric link del "h$1"
  ip netns del "$(netns "$1")"
}

# on N COMMAND...: in node N's namespaces (mount, net, uts, ipc, pid, cgroup).
on() { local n=$1; shift; nsenter -t "$(cat "$RUN/n$n/pid")" -m -n -u -i -p -C -- "$@"; }

# client COMMAND...: from outside of the cluster. In the lab that is a host of its own on the underlay, else this machine.
OUTSIDE=(nsenter --net=/run/netns/np-client --)
[ -z "${NETPATH_CLUSTER:-}" ] || OUTSIDE=(env)
client() { "${OUTSIDE[@]}" "$@"; }
kubectl() { client "$BIN/kubectl" "$@"; }

# start N NAME COMMAND...: a daemon in node N and its cgroup, with the log $RUN/nN/NAME.log.
# Its pid, as the node sees it, goes to /run/lab/NAME.pid inside the node.
start() {
  local n=$1 name=$2; shift 2
  on "$n" setsid sh -c '
    for p in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >"$p"; done
    echo $$ >"/run/lab/$0.pid"
    exec "$@"' "$name" "$@" </dev/null >>"$RUN/n$n/$name.log" 2>&1 &
}
# stop N NAME: end what start started.
stop() { on "$1" sh -c 'kill "$(cat /run/lab/$0.pid)" && rm /run/lab/$0.pid' "$2"; }

# command_of N NAME: the words of what start started, each with a NUL behind it: for `start`, after it was stopped.
command_of() { on "$1" sh -c 'cat "/proc/$(cat /run/lab/$0.pid)/cmdline"' "$2"; }

# images N ARGUMENTS...: `ctr images` on node N, quietly.
images() { on "$1" ctr -n k8s.io images "${@:2}" 2> >(grep -v 'cgroup v1' >&2) >/dev/null; }

# wait_for SECONDS COMMAND...: repeat COMMAND until it succeeds.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || die "gave up waiting for: $*"
    sleep 0.5
  done
}

# until_true SECONDS COMMAND...: as wait_for, but what then still fails is for a report to tell.
until_true() { (wait_for "$@") 2>/dev/null || true; }

# manifest NAME KEY=VALUE...: apply manifests/NAME.yaml with each @KEY@ replaced.
manifest() {
  local name=$1 kv edits=(); shift
  for kv in "$@"; do edits+=(-e "s|@${kv%%=*}@|${kv#*=}|g"); done
  sed -e "" "${edits[@]}" "$HERE/manifests/$name.yaml" | kubectl apply -f - >/dev/null
}

# agnhost: the image of the suite's test server, as this cluster has it.
agnhost() {
  if [ "${NETPATH_CLUSTER:-}" ]; then
    e2e.test --list-images 2>/dev/null | grep -m1 /agnhost:
  else
    echo "$REPO/agnhost:lab"
  fi
}

# node_addresses: "ADDRESS NAME" of every node, one a line; a node may have one of each family.
node_addresses() {
  kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.name}{range .status.addresses[?(@.type=="InternalIP")]} {.address}{end}{"\n"}{end}' |
    awk '{ for (i = 2; i <= NF; i++) print $i, $1 }'
}

# expect WHAT PATTERN COMMAND...: one line of a report; the output of COMMAND must match the shell's PATTERN.
expect() {
  local output
  output=$("${@:3}" 2>&1) || true
  # shellcheck disable=SC2053 # it is a pattern
  if [[ $output == $2 ]]; then echo "ok   $1"; else echo "FAIL $1: $output"; fi
}

# report <LINES: show the lines of a check (`ok WHAT`, `FAIL WHAT: WHY`, `skip WHAT: WHY`); succeed if none failed and some are ok.
report() { awk '{ print } /^ok / { ok++ } /^FAIL / { failed++ } END { exit !(ok && !failed) }'; }

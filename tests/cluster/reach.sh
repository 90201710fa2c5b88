# Everyone asks everyone: the servers and the askers of manifests/smoke.yaml, one of each on each node. Sourced, behind lib.sh.

# pods NAMESPACE APP: "NAME NODE IP..." of each pod, one a line; it may have an address of each family.
pods() {
  kubectl -n "$1" get pods -l "app=$2" -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{range .status.podIPs[*]} {.ip}{end}{"\n"}{end}'
}

# settled NAMESPACE: wait until each node has one of each.
settled() { for d in web host; do kubectl -n "$1" rollout status "daemonset/$d" --timeout=120s >/dev/null; done; }

# A script for any place that has curl: each "URL WHAT..." of its input must answer with the name of a web pod.
TRY='while read -r url what; do
  answer=$(curl -gsS -m 3 "http://$url/hostname" 2>&1)
  case $answer in
    web-*) echo "ok   $0 -> $what" ;;
    *) echo "FAIL $0 -> $what: $answer" ;;
  esac
done'

# family ADDRESS: what a line of the report calls it by.
family() { [[ $1 = *:* ]] && echo IPv6 || echo IPv4; }

# reach NAMESPACE: a line for each way: from a pod and from the host of every node each pod by its addresses, the ClusterIPs and the
# node ports; from pods the service by name; from outside the node ports.
reach() {
  local ns=$1 webs node_ports targets pod node ips ip port
  webs=$(pods "$ns" web)
  port=$(kubectl -n "$ns" get service web -o 'jsonpath={.spec.ports[0].nodePort}')
  node_ports=$(node_addresses | while read -r ip node; do echo "$(host "$ip"):$port $(family "$ip") NodePort on $node"; done)
  targets=$(
    while read -r _ node ips; do
      for ip in $ips; do echo "$(host "$ip"):8080 $(family "$ip") pod on $node"; done
    done <<<"$webs"
    for ip in $(kubectl -n "$ns" get service web -o 'jsonpath={.spec.clusterIPs[*]}'); do echo "$(host "$ip") $(family "$ip") ClusterIP"; done
    echo "$node_ports"
  )
  while read -r -u3 pod node _; do
    { echo "$targets"; echo "web.$ns.svc.cluster.local service by name"; } | kubectl -n "$ns" exec -i "$pod" -- sh -c "$TRY" "pod on $node"
  done 3<<<"$webs"
  while read -r -u3 pod node _; do
    kubectl -n "$ns" exec -i "$pod" -- sh -c "$TRY" "host $node" <<<"$targets"
  done 3< <(pods "$ns" host)
  if [ "${NETPATH_CLUSTER:-}" ]; then
    echo "skip client -> NodePort: whether this machine reaches the nodes is not known"
  else
    client sh -c "$TRY" client <<<"$node_ports"
  fi
}

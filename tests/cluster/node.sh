# How a node comes to be: its certificates, files, images and kubelet. Sourced, behind lib.sh, by `up` for the first nodes and by
# what has another one join.

PKI=$RUN/pki
API=https://$(host "$(addr 1)"):6443

# key NAME, cert NAME SUBJECT [SAN]: a key; one with a certificate of the cluster's authority.
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key"; }
cert() {
  key "$1"
  openssl req -new -key "$PKI/$1.key" -subj "$2" |
    openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 -out "$PKI/$1.crt" \
      -extfile <(echo "extendedKeyUsage=serverAuth,clientAuth"; [ -z "${3:-}" ] || echo "subjectAltName=$3") 2>/dev/null
}
# config FILE CERT: a kubeconfig for the bearer of CERT.
config() {
  local k=(kubectl --kubeconfig "$1" config)
  "${k[@]}" set-cluster lab --server="$API" --certificate-authority="$PKI/ca.crt" --embed-certs >/dev/null
  "${k[@]}" set-credentials user --client-certificate="$PKI/$2.crt" --client-key="$PKI/$2.key" --embed-certs >/dev/null
  "${k[@]}" set-context lab --cluster=lab --user=user >/dev/null
  "${k[@]}" use-context lab >/dev/null
}

# make_node N: node N, plugged in before: its namespaces and files. Its kubelet may also have the addresses that `addrs N later` tells.
make_node() {
  local dir=$RUN/n$1 m
  mkdir -p "$dir/root/etc/kubernetes/static"
  { echo "127.0.0.1 localhost"; for m in $(nodes); do echo "$(addr "$m") n$m"; done; } >"$dir/root/hosts"
  : >"$dir/root/resolv.conf" # no DNS but the cluster's own
  cert "kubelet-$1" "/O=system:nodes/CN=system:node:n$1" "DNS:n$1,IP:$(addrs "$1" | sed s/,/,IP:/),IP:$(addrs "$1" later | sed s/,/,IP:/)"
  config "$PKI/kubelet-$1.conf" "kubelet-$1"

  boot "$1"
  cp -r "$CNI_BIN/." "$dir/root/opt/cni/bin/"
  cp "$PKI/ca.crt" "$dir/root/etc/kubernetes/"
  cp "$PKI/kubelet-$1.crt" "$dir/root/etc/kubernetes/kubelet.crt"
  cp "$PKI/kubelet-$1.key" "$dir/root/etc/kubernetes/kubelet.key"
  cp "$PKI/kubelet-$1.conf" "$dir/root/etc/kubernetes/kubelet.conf"
  cp "$PKI/kube-proxy.conf" "$HERE/config/kubelet.yaml" "$HERE/config/containerd.toml" "$dir/root/etc/kubernetes/"
  sed -i "s|@DNS_IP@|$DNS_IP|" "$dir/root/etc/kubernetes/kubelet.yaml"
}

# fill_node N: the images that `up` has imported once, in node N's containerd, which then runs. What is linked is never written
# again: blobs, and layers, which overlayfs only reads. The databases are copied.
STORE=$LAB/store
containerd() { start "$1" containerd containerd --config /etc/kubernetes/containerd.toml && wait_for 30 on "$1" ctr version; }
copy_store() { # FROM TO
  cp -al "$1/." "$2/"
  find "$2" -name '*.db' -exec cp --remove-destination -p {} {}.copy \; -exec mv {}.copy {} \;
}
fill_node() {
  copy_store "$STORE" "$RUN/n$1/root/var/lib/containerd"
  containerd "$1"
}

# kubelet N ADDRESSES: starts node N's kubelet, with this address, or one of each family. Its zone is one of three.
kubelet() {
  start "$1" kubelet kubelet --config=/etc/kubernetes/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.conf \
    --hostname-override="n$1" --node-ip="$2" --node-labels="topology.kubernetes.io/zone=z$((($1 - 1) % 3 + 1))"
}

// Cluster is a Kubernetes control plane for tests in one process: a real API server with etcd, the real Job
// controller and the real garbage collector. It has no node and no scheduler, which a test replaces.
//
//	cluster DIR [ADDRESS]
//
// It stores all its data in DIR. When it is ready it writes an administrator's kubeconfig there, and then the
// file ready. It listens on free ports of 127.0.0.1 and exits when its standard input is closed.
//
// With ADDRESS, an address of this machine, the API server listens there on a free port, and no controller
// runs: the cluster has nodes, a scheduler and all controllers of Kubernetes, as processes of their own.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/controller-manager/pkg/informerfactory"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
)

func main() {
	address := ""
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	if err := run(os.Args[1], address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir, address string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	store, err := startEtcd(filepath.Join(dir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	whole := address != ""
	if !whole {
		address = "127.0.0.1"
	}
	port, err := freePort(address)
	if err != nil {
		return err
	}
	admin := rand.Text()
	failed := make(chan error, 1)
	if err := startAPI(dir, store, address, port, admin, failed); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	ca := filepath.Join(dir, "apiserver.crt")
	config := &rest.Config{
		Host: fmt.Sprintf("https://%s:%d", address, port), BearerToken: admin, QPS: 1000, Burst: 2000,
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca},
	}
	if err := awaitReady(config, failed); err != nil {
		return err
	}
	if !whole {
		if err := startControllers(context.Background(), config); err != nil {
			return fmt.Errorf("controllers: %w", err)
		}
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(kubeconfig(config.Host, ca, admin), file); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		return err
	}
	return <-failed
}

func startEtcd(dir string) (address string, err error) {
	c := embed.NewConfig()
	c.Dir, c.LogLevel, c.UnsafeNoFsync = dir, "error", true // tests need no durability
	listen := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c.ListenPeerUrls, c.ListenClientUrls = []url.URL{listen}, []url.URL{listen}
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = []url.URL{listen}, []url.URL{listen}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return "", err
	}
	<-e.Server.ReadyNotify()
	return "http://" + e.Clients[0].Addr().String(), nil
}

func startAPI(dir, store, address string, port int, admin string, failed chan<- error) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	keyFile := filepath.Join(dir, "accounts.key")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	tokens := filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(admin+",admin,admin,system:masters\n"), 0o600); err != nil {
		return err
	}
	c := apiserver.NewAPIServerCommand()
	c.SetArgs([]string{
		"--etcd-servers=" + store, "--bind-address=" + address, fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir=" + dir, "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
		"--token-auth-file=" + tokens, "--anonymous-auth=false",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keyFile, "--service-account-signing-key-file=" + keyFile,
		"--kubelet-preferred-address-types=InternalIP", "--profiling=false",
		// A pod leaves a node that is lost after these seconds instead of five minutes.
		"--default-not-ready-toleration-seconds=5", "--default-unreachable-toleration-seconds=5",
	})
	go func() { failed <- c.Execute() }()
	return nil
}

func awaitReady(config *rest.Config, failed <-chan error) error {
	began := time.Now()
	for {
		select {
		case err := <-failed:
			return fmt.Errorf("kube-apiserver: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
		client, err := kubernetes.NewForConfig(config)
		if err == nil {
			err = client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(context.Background()).Error()
		}
		if err == nil {
			return nil
		}
		if time.Since(began) > 3*time.Minute {
			return fmt.Errorf("kube-apiserver is not ready: %w", err)
		}
	}
}

func startControllers(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	typed := informers.NewSharedInformerFactory(client, 0)
	jobs, err := job.NewController(ctx, typed.Core().V1().Pods(), typed.Batch().V1().Jobs(), client)
	if err != nil {
		return err
	}
	started := make(chan struct{})
	cached := memory.NewMemCacheClient(discovery.NewDiscoveryClient(client.Discovery().RESTClient()))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(cached)
	factory := informerfactory.NewInformerFactory(typed, metadatainformer.NewSharedInformerFactory(meta, 0))
	garbage, err := garbagecollector.NewGarbageCollector(ctx, client, meta, mapper,
		garbagecollector.DefaultIgnoredResources(), factory, started)
	if err != nil {
		return err
	}
	typed.Start(ctx.Done())
	close(started)
	go jobs.Run(ctx, 5)
	go garbage.Run(ctx, 5, 30*time.Second)
	go garbage.Sync(ctx, cached, 30*time.Second)
	return nil
}

func kubeconfig(host, ca, token string) clientcmdapi.Config {
	c := *clientcmdapi.NewConfig()
	c.Clusters["test"] = &clientcmdapi.Cluster{Server: host, CertificateAuthority: ca}
	c.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: token}
	c.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	c.CurrentContext = "test"
	return c
}

func freePort(address string) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

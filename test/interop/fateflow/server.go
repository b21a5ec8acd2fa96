// Package fateflow lays out and describes FATE-Flow 2.2.0 servers that install.sh has installed, and the S3 server that
// their containers store with, for the tests of test/interop and for bench. Starting and stopping them is the caller's.
package fateflow

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"hutong/bfia"
)

// Server is a FATE-Flow with a database, settings and a folder of its own.
type Server struct {
	// Dir is its folder, where it keeps its database and its logs. Its name must be fate_flow.
	Dir string
	// Cache is where install.sh put the package.
	Cache string
	// Node is its party id.
	Node string
	// Address is host:port of its API, GRPCPort another free port there.
	Address  string
	GRPCPort int
	// Storage is the URL of its bucket, Transport host:port of the transport that its containers use.
	Storage   string
	Transport string
	// Routes is host:port of each party by node id, its own too.
	Routes map[string]string
	// Proxy, where it is set, is host:port of the proxy through which it sends all commands of its own protocol, to itself
	// too. The proxy finds the party in the header dest-party-id. Without one it sends none to other parties.
	Proxy string
}

// Install makes the folder. The package is copied, since settings and routes are files in it.
func (h *Server) Install() error {
	if err := os.MkdirAll(h.Dir, 0o750); err != nil {
		return err
	}
	python := filepath.Join(h.Dir, "python")
	if out, err := exec.Command("cp", "-a", filepath.Join(h.Cache, "fate_flow", "python"), python).CombinedOutput(); err != nil {
		return fmt.Errorf("copying FATE-Flow: %w: %s", err, out)
	}
	pkg := filepath.Join(python, "fate_flow")
	if err := os.CopyFS(filepath.Join(h.Dir, "conf"), os.DirFS(filepath.Join(pkg, "conf"))); err != nil {
		return err
	}
	version, err := os.ReadFile(filepath.Join(pkg, "fateflow.env"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "fateflow.env"), version, 0o600); err != nil {
		return err
	}
	host, port, err := splitAddress(h.Address)
	if err != nil {
		return err
	}
	// What stands in local.service_conf.yaml goes before service_conf.yaml.
	local := map[string]any{
		"party_id": h.Node,
		"fateflow": map[string]any{"host": host, "http_port": port, "grpc_port": h.GRPCPort, "proxy_name": "osx"},
	}
	if h.Proxy != "" {
		proxyHost, proxyPort, err := splitAddress(h.Proxy)
		if err != nil {
			return err
		}
		local["fateflow"].(map[string]any)["proxy_name"] = "nginx"
		// With a standalone federation it would have no other parties.
		local["default_engines"] = map[string]any{"computing": "standalone", "federation": "osx", "storage": "standalone"}
		local["federation"] = map[string]any{
			"osx":   map[string]any{"host": host, "port": h.GRPCPort, "mode": "stream"},
			"nginx": map[string]any{"host": proxyHost, "http_port": proxyPort, "protocol": "http"}}
	}
	if err := writeYAML(filepath.Join(h.Dir, "conf", "local.service_conf.yaml"), local); err != nil {
		return err
	}
	routes := map[string]any{}
	for node, to := range h.Routes {
		host, port, err := splitAddress(to)
		if err != nil {
			return err
		}
		routes[node] = map[string]any{"host": host, "port": port}
	}
	adapter := filepath.Join(pkg, "adapter", "bfia")
	if err := writeYAML(filepath.Join(adapter, "conf", "route_table.yaml"), routes); err != nil {
		return err
	}
	settings, err := os.OpenFile(filepath.Join(adapter, "settings.py"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = settings.Close() }()
	_, err = fmt.Fprintf(settings, "\nSTORAGE_ADDRESS = %q\nTRANSPORT = %q\nCALLBACK_ADDRESS = %q\nCALLBACK = CALLBACK_ADDRESS + %q\n",
		h.Storage, h.Transport, h.URL(), bfia.PathPlatformCallback)
	return err
}

// URL is that of its API.
func (h *Server) URL() string { return "http://" + h.Address }

// Command is the server's program, with its arguments and what its environment has beside ours.
func (h *Server) Command() (program string, args, env []string) {
	python := filepath.Join(h.Dir, "python")
	return filepath.Join(h.Cache, "venv", "bin", "python"), []string{filepath.Join(python, "fate_flow", "fate_flow_server.py")},
		[]string{"PYTHONPATH=" + python, "PYTHONUNBUFFERED=1"}
}

// IsReady tells whether the server answers BFIA's endpoints. An error means that it never will: the adapter did not load.
func (h *Server) IsReady() (bool, error) {
	resp, err := http.Post(h.URL()+bfia.PathTaskPoll, "application/json", strings.NewReader(`{"task_id":"none","role":""}`))
	if err != nil {
		return false, nil // not yet
	}
	defer func() { _ = resp.Body.Close() }()
	var env bfia.Envelope
	if err := json.NewDecoder(resp.Body).Decode(&env); err != nil {
		return false, fmt.Errorf("FATE-Flow's BFIA adapter did not load: HTTP %d: %w", resp.StatusCode, err)
	}
	if !strings.Contains(env.Text(), "No found task") {
		return false, fmt.Errorf("FATE-Flow's BFIA adapter did not load: %s", env.Text())
	}
	return true, nil
}

// Database is the file of its database.
func (h *Server) Database() string { return filepath.Join(h.Dir, "fate_flow_sqlite.db") }

// EnableWAL puts the database of a server that answers into a mode in which readers and a writer don't lock each other
// out: its scheduler's thread ends for good at the first "database is locked", which its own threads alone can bring about.
func (h *Server) EnableWAL(ctx context.Context) error {
	db, err := sql.Open("sqlite", "file:"+h.Database()+"?_pragma=busy_timeout(30000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	var mode string
	if err := db.QueryRowContext(ctx, "pragma journal_mode = wal").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("FATE-Flow's database is in mode %s, not wal", mode)
	}
	return nil
}

// TransportConfig writes the configuration of the Hutong transport through which its containers talk to those of a
// partner, and gives the file. listen is an address that nothing else uses.
func (h *Server) TransportConfig(listen string, partners map[string]Partner) (string, error) {
	routes := map[string]any{}
	for node, p := range partners {
		routes[node] = map[string]any{"url": p.URL, "transport_url": p.TransportURL}
	}
	file := filepath.Join(h.Dir, "transport.yaml")
	return file, writeYAML(file, map[string]any{
		"node_id": h.Node, "listen": listen, "data_dir": filepath.Join(h.Dir, "transport"),
		"transport": map[string]any{"listen": h.Transport},
		"routes":    routes,
		"runner":    map[string]any{"docker": map[string]any{"enabled": "false"}},
	})
}

// Partner is where another party is.
type Partner struct{ URL, TransportURL string }

const (
	storageUser   = "interop"
	storageSecret = "interop-secret"
)

// StorageCommand is the S3 server that serves the folders of root as buckets, which it makes, on an address that the
// containers of all parties reach.
func StorageCommand(cache, address, root string, buckets ...string) (program string, args, env []string, err error) {
	for _, bucket := range buckets {
		if err := os.MkdirAll(filepath.Join(root, bucket), 0o750); err != nil { // a folder is a bucket
			return "", nil, nil, err
		}
	}
	return filepath.Join(cache, "bin", "versitygw"), []string{"--port", address, "posix", root},
		[]string{"ROOT_ACCESS_KEY=" + storageUser, "ROOT_SECRET_KEY=" + storageSecret}, nil
}

// StorageURL is the URL of a bucket of that server.
func StorageURL(address, bucket string) string {
	return fmt.Sprintf("s3://%s?%s", address, url.Values{"username": {storageUser}, "password": {storageSecret}, "bucket": {bucket}}.Encode())
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	return host, port, err
}

func writeYAML(path string, content any) error {
	b, err := yaml.Marshal(content)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// Package fateflow prepares FATE-Flow 2.2.0 servers, from the package that install.sh has installed, and the
// S3 server for their containers. The tests of test/interop and bench start and stop them.
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

// Server is an installed FATE-Flow server with a database, settings and a folder of its own.
type Server struct {
	// Dir is the server's folder, with its database and its logs. Its name must be fate_flow.
	Dir string
	// Cache is where install.sh put the package.
	Cache string
	// Node is its party id.
	Node string
	// Address is the host:port of its API, and GRPCPort another free port of that host.
	Address  string
	GRPCPort int
	// Storage is the URL of its bucket, and Transport the host:port of its containers' transport.
	Storage   string
	Transport string
	// Routes holds the host:port of each party by node id, including its own.
	Routes map[string]string
	// Proxy is the host:port of the proxy for all commands of FATE-Flow's own protocol, also those to itself.
	// The proxy finds the party in the header dest-party-id. Without a proxy the server sends no such
	// commands to other parties.
	Proxy string
	// SiteAuthentication has the server demand FATE-Flow's site authentication of other parties, and prove
	// itself to them by it, in its own protocol.
	SiteAuthentication bool
	// Components has the server run FATE's own components, from the environment that components.sh has made.
	Components bool
}

// Install creates the folder. It copies the package, since settings and routes are files in it.
func (h *Server) Install() error {
	if err := os.MkdirAll(h.Dir, 0o750); err != nil {
		return err
	}
	python := filepath.Join(h.Dir, "python")
	source := filepath.Join(h.Cache, "fate_flow", "python")
	if out, err := exec.Command("cp", "-a", source, python).CombinedOutput(); err != nil {
		return fmt.Errorf("failed to copy FATE-Flow's package: %w: %s", err, out)
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
	if err := h.Configure(); err != nil {
		return err
	}
	return h.configureAdapter(filepath.Join(pkg, "adapter", "bfia"))
}

// Configure writes the settings of an installed server, which it reads at its start.
func (h *Server) Configure() error {
	host, port, err := splitAddress(h.Address)
	if err != nil {
		return err
	}
	// Settings in local.service_conf.yaml override those in service_conf.yaml.
	local := map[string]any{
		"party_id": h.Node,
		"fateflow": map[string]any{"host": host, "http_port": port, "grpc_port": h.GRPCPort,
			"proxy_name": "osx"},
		"authentication": map[string]any{"client": false, "site": h.SiteAuthentication, "permission": false},
	}
	if h.Proxy != "" {
		proxyHost, proxyPort, err := splitAddress(h.Proxy)
		if err != nil {
			return err
		}
		local["fateflow"].(map[string]any)["proxy_name"] = "nginx"
		// With a standalone federation the server knows no other parties.
		local["default_engines"] = map[string]any{"computing": "standalone", "federation": "osx",
			"storage": "standalone"}
		local["federation"] = map[string]any{
			"osx":   map[string]any{"host": host, "port": h.GRPCPort, "mode": "stream"},
			"nginx": map[string]any{"host": proxyHost, "http_port": proxyPort, "protocol": "http"}}
	}
	return writeYAML(filepath.Join(h.Dir, "conf", "local.service_conf.yaml"), local)
}

// configureAdapter writes the routes and settings of the BFIA adapter.
func (h *Server) configureAdapter(adapter string) error {
	routes := map[string]any{}
	for node, to := range h.Routes {
		host, port, err := splitAddress(to)
		if err != nil {
			return err
		}
		routes[node] = map[string]any{"host": host, "port": port}
	}
	if err := writeYAML(filepath.Join(adapter, "conf", "route_table.yaml"), routes); err != nil {
		return err
	}
	settings, err := os.OpenFile(filepath.Join(adapter, "settings.py"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = settings.Close() }()
	_, err = fmt.Fprintf(settings,
		"\nSTORAGE_ADDRESS = %q\nTRANSPORT = %q\nCALLBACK_ADDRESS = %q\nCALLBACK = CALLBACK_ADDRESS + %q\n",
		h.Storage, h.Transport, h.URL(), bfia.PathPlatformCallback)
	return err
}

// URL returns the URL of the server's API.
func (h *Server) URL() string { return "http://" + h.Address }

// Command returns the server's program, its arguments, and the additions to its environment.
func (h *Server) Command() (program string, args, env []string) {
	python, environment := filepath.Join(h.Dir, "python"), "venv"
	if h.Components {
		environment = "own"
	}
	return filepath.Join(h.Cache, environment, "bin", "python"),
		[]string{filepath.Join(python, "fate_flow", "fate_flow_server.py")},
		[]string{"PYTHONPATH=" + python, "PYTHONUNBUFFERED=1"}
}

// IsReady reports whether the server answers BFIA's endpoints. An error means that it never will, since its
// adapter failed to load.
func (h *Server) IsReady() (bool, error) {
	resp, err := http.Post(h.URL()+bfia.PathTaskPoll, "application/json",
		strings.NewReader(`{"task_id":"none","role":""}`))
	if err != nil {
		return false, nil // not yet
	}
	defer func() { _ = resp.Body.Close() }()
	var env bfia.Envelope
	if err := json.NewDecoder(resp.Body).Decode(&env); err != nil {
		return false, fmt.Errorf("FATE-Flow's BFIA adapter failed to load: HTTP %d: %w", resp.StatusCode, err)
	}
	if !strings.Contains(env.Text(), "No found task") {
		return false, fmt.Errorf("FATE-Flow's BFIA adapter failed to load: %s", env.Text())
	}
	return true, nil
}

// Database returns the path of the server's SQLite database.
func (h *Server) Database() string { return filepath.Join(h.Dir, "fate_flow_sqlite.db") }

// EnableWAL switches the database of a running server to write-ahead logging, in which readers and a writer
// do not lock each other out. Otherwise the server's scheduler thread ends for good at the first "database is
// locked", which its own threads can cause.
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
		return fmt.Errorf(
			"failed to switch FATE-Flow's database to journal mode wal: it stays in mode %s", mode)
	}
	return nil
}

// TransportConfig writes the configuration of the Hutong transport through which the server's containers
// reach those of its partners, and returns the file. listen is an unused address, and messages the address
// for the transports of partners on this machine.
func (h *Server) TransportConfig(listen, messages string, partners map[string]Partner) (string, error) {
	routes := map[string]any{}
	for node, p := range partners {
		routes[node] = map[string]any{"url": p.URL, "transport_url": p.TransportURL, "auth": "none",
			"from": []string{"127.0.0.0/8"}}
	}
	file := filepath.Join(h.Dir, "transport.yaml")
	return file, writeYAML(file, map[string]any{
		"node_id": h.Node, "listen": listen, "data_dir": filepath.Join(h.Dir, "transport"),
		"security": map[string]any{"mode": "open"}, // FATE-Flow's containers prove nothing
		"transport": map[string]any{"listen": h.Transport, "partner_plain_listen": messages,
			"sessions": "all"},
		"routes": routes})
}

// Partner holds the addresses of another party.
type Partner struct{ URL, TransportURL string }

const (
	storageUser   = "interop"
	storageSecret = "interop-secret"
)

// StorageCommand returns the command of an S3 server on an address that the containers of all parties reach.
// Its buckets are folders of root, which it creates.
func StorageCommand(cache, address, root string,
	buckets ...string) (program string, args, env []string, err error) {
	for _, bucket := range buckets {
		if err := os.MkdirAll(filepath.Join(root, bucket), 0o750); err != nil { // a folder is a bucket
			return "", nil, nil, err
		}
	}
	return filepath.Join(cache, "bin", "versitygw"), []string{"--port", address, "posix", root},
		[]string{"ROOT_ACCESS_KEY=" + storageUser, "ROOT_SECRET_KEY=" + storageSecret}, nil
}

// StorageURL returns the URL of a bucket of that server.
func StorageURL(address, bucket string) string {
	return fmt.Sprintf("s3://%s?%s", address,
		url.Values{"username": {storageUser}, "password": {storageSecret}, "bucket": {bucket},
			"secure": {"false"}}.Encode())
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

package cluster

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// root is the repository's folder.
var root = filepath.Join("..", "..", "..")

// services are what the parties need outside of the cluster: processes of this machine that pods reach, with
// TLS.
type services struct {
	address                string // of this machine
	authority              []byte // of their certificate
	temporal, postgres, s3 string // host:port
	sql                    func(t *testing.T, database, statement string) string
}

// program returns the path of a program that make build has built, or that the tests have installed.
func program(t *testing.T, dir, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(dir, name))
	require.NoError(t, err)
	_, err = os.Stat(path)
	require.NoError(t, err, "run make test-helm-cluster, which builds it")

	return path
}

// run runs a program to its end, and returns what it prints.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	require.NoError(t, err, "%s: %s%s", strings.Join(cmd.Args, " "), out, problems.String())

	return string(out)
}

// start starts a program that ends with the test. Its output is in a file of the folder.
func start(t *testing.T, dir string, cmd *exec.Cmd) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s:\n%s", cmd.Path, lastLines(string(text), 15))
		}
	})
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")

	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// free returns a free port of an address.
func free(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()

	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func awaitPort(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 100*time.Millisecond, "nothing listens on %s", address)
}

// startServices starts PostgreSQL, Temporal and an S3 server.
func startServices(t *testing.T) services {
	t.Helper()
	s := services{address: os.Getenv("HUTONG_TEST_ADDRESS")}
	dir := t.TempDir()
	pem := filepath.Join(dir, "services.pem")
	hutong := program(t, filepath.Join(root, "bin"), "hutong")
	run(t, exec.Command(hutong, "cert", "init", "SERVICES", pem, "--host", s.address))
	text, err := os.ReadFile(pem)
	require.NoError(t, err)
	s.authority = certificate(text)
	s.startPostgres(t, text)
	s.startTemporal(t, hutong, pem)

	data := t.TempDir()
	s.s3 = net.JoinHostPort(s.address, free(t, s.address))
	gateway := exec.Command(program(t, os.Getenv("HUTONG_TEST_BIN"), "versitygw"), "--port", s.s3,
		"--cert", pem, "--key", pem, "posix", data)
	gateway.Env = []string{"ROOT_ACCESS_KEY=hutong", "ROOT_SECRET_KEY=hutong-secret"}
	start(t, t.TempDir(), gateway)
	awaitPort(t, s.s3)

	return s
}

// certificate returns the certificates of a PEM file, without its key.
func certificate(pem []byte) []byte {
	return slices.Concat(regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n`).
		FindAll(pem, -1)...)
}

func (s *services) startPostgres(t *testing.T, pem []byte) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	require.NoError(t, err)
	require.NotEmpty(t, found, "PostgreSQL is not installed: run make setup")
	bin := found[len(found)-1]
	account, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.Atoi(account.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(account.Gid)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, uid, gid))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711))
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
		cmd.Dir = dir
		return cmd
	}

	data := filepath.Join(dir, "data")
	run(t, as("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
		"--no-sync"))
	key := filepath.Join(data, "server.pem")
	require.NoError(t, os.WriteFile(key, pem, 0o600))
	require.NoError(t, os.Chown(key, uid, gid))
	rules, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(rules, "hostssl all all %s/16 trust\n", s.address)
	require.NoError(t, err)
	require.NoError(t, rules.Close())

	port := free(t, s.address)
	s.postgres = net.JoinHostPort(s.address, port)
	start(t, t.TempDir(), as("postgres", "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1,"+s.address, "-c", "unix_socket_directories=", "-c", "fsync=off",
		"-c", "max_connections=300", "-c", "ssl=on", "-c", "ssl_cert_file="+key, "-c", "ssl_key_file="+key))
	s.sql = func(t *testing.T, database, statement string) string {
		return strings.TrimSpace(run(t, as("psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres",
			"-d", database, "-At", "-c", statement)))
	}
	require.Eventually(t, func() bool { return as("pg_isready", "-h", "127.0.0.1", "-p", port).Run() == nil },
		time.Minute, 200*time.Millisecond, "PostgreSQL does not answer")
}

// startTemporal starts Hutong's own Temporal server, which listens on the loopback interface without TLS, and
// something that accepts TLS for it.
func (s *services) startTemporal(t *testing.T, hutong, pem string) {
	t.Helper()
	server := exec.Command(hutong, "temporal", "--data-dir", t.TempDir(), "--port", "0")
	out, in, err := os.Pipe()
	require.NoError(t, err)
	server.Stdout = in
	start(t, t.TempDir(), server)
	require.NoError(t, in.Close())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	plain, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	require.True(t, ready, line)

	pair, err := tls.LoadX509KeyPair(pem, pem)
	require.NoError(t, err)
	l, err := tls.Listen("tcp", net.JoinHostPort(s.address, "0"), &tls.Config{MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s.temporal = l.Addr().String()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test has ended
			}
			go forward(client, plain)
		}
	}()
}

// forward passes on what two connections send until one ends.
func forward(client net.Conn, address string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}

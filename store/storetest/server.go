package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
)

// startShared starts the server that the tests of this process share, and returns its address.
var startShared = sync.OnceValues(func() (string, error) {
	s, err := startServer(nil)
	if err != nil {
		return "", err
	}
	return s.Address(), nil
})

// Server is a PostgreSQL server of a test's own, on a Unix socket in a new folder. It stops, and its folder
// is removed, however this process ends.
type Server struct {
	dir   string
	alive io.Closer // the server stops when it is closed
	ended chan error
}

// StartServer starts a server for one test. With a primary it is the primary's standby.
func StartServer(t testing.TB, primary *Server) *Server {
	t.Helper()
	s, err := startServer(primary)
	if err != nil {
		skipWithoutPostgres(t, err)
	}
	t.Cleanup(func() {
		_ = s.alive.Close()
		<-s.ended
	})
	return s
}

// Address returns the address of the server's own database.
func (s *Server) Address() string {
	address := &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {s.dir}, "sslmode": {"disable"}}.Encode()}
	return address.String()
}

// Socket returns the path of the server's Unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }

// Exec runs a statement in the server's own database.
func (s *Server) Exec(t testing.TB, statement string) {
	t.Helper()
	u, err := url.Parse(s.Address())
	if err != nil {
		t.Fatal(err)
	}
	admin(t, u, statement)
}

// Kill stops the server at once, as a crash of its machine would.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(first)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGQUIT)
	}
	if err != nil {
		t.Fatalf("failed to kill PostgreSQL: %v", err)
	}
}

// serverScript runs a server until its standard input ends, which is when the process of the tests does. It
// runs as the server's user, so it may remove the folder.
const serverScript = `
trap '' INT TERM HUP
set -e
cd "$1"
if [ -n "$3" ]; then
  make_data() { "$2/pg_basebackup" -D data -R -X stream -c fast -U postgres -h "$3" --no-sync; }
else
  make_data() { "$2/initdb" -D data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync; }
fi
if ! make_data "$@" >log 2>&1; then
  cat log >&2
  rm -rf data log
  exit 1
fi
"$2/postgres" -D data -k "$1" -c listen_addresses= -c fsync=off -c max_connections=300 \
  -c timezone=Asia/Shanghai >>log 2>&1 &
pid=$!
read -r _ || true
kill -QUIT $pid || true
wait $pid || true
rm -rf "$1"/* "$1"/.s.* || true
rmdir "$1" 2>/dev/null || true
`

func startServer(primary *Server) (*Server, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	cred, err := postgresUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hutong-pg-")
	if err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	source := ""
	if primary != nil {
		source = primary.dir
	}
	cmd := exec.Command("/bin/sh", "-c", serverScript, "sh", dir, bin, source)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HOME="+dir)
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("failed to start PostgreSQL: %w", err)
	}
	s := &Server{dir: dir, alive: alive, ended: make(chan error, 1)}
	go func() { s.ended <- cmd.Wait() }()
	return s, s.await(&stderr)
}

// await waits until the server answers.
func (s *Server) await(stderr *bytes.Buffer) error {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithNetwork("unix"), pgdriver.WithAddr(s.Socket()),
		pgdriver.WithUser("postgres"), pgdriver.WithDatabase("postgres"), pgdriver.WithInsecure(true)))
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("failed to start PostgreSQL: %s", bytes.TrimSpace(stderr.Bytes()))
		case <-ctx.Done():
			return fmt.Errorf("failed to start PostgreSQL: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// postgresBin returns the folder of the newest installed binaries: Debian's, or those in PATH.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		version := func(path string) int {
			n, _ := strconv.Atoi(
				filepath.Base(filepath.Dir(filepath.Dir(path))),
			) // a name that is no number counts as the oldest
			return n
		}
		newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
		return filepath.Dir(newest), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", errors.New(
			"its binaries are not installed in /usr/lib/postgresql or in PATH, and " +
				"HUTONG_TEST_POSTGRES is not set",
		)
	}
	return filepath.Dir(path), nil
}

// postgresUser returns the user to run the server as, since PostgreSQL refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres")
}

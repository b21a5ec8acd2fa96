package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
)

// startPostgres starts one server for this process, on a Unix socket in a new folder, and returns its
// address. The server stops, and its folder is removed, however this process ends.
var startPostgres = sync.OnceValues(func() (string, error) {
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	cred, err := postgresUser()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "hutong-pg-")
	if err != nil {
		return "", err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return "", err
		}
	}
	// The shell's standard input ends when this process does. It runs as the server's user, so it may remove
	// the folder.
	const script = `
trap '' INT TERM HUP
set -e
cd "$1"
if ! "$2/initdb" -D data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >log 2>&1; then
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
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir, bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "HOME="+dir)
	alive, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("failed to start PostgreSQL: %w", err)
	}
	_ = alive // open until the process ends; never written to
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	address := &url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres",
		RawQuery: url.Values{"host": {dir}, "sslmode": {"disable"}}.Encode()}
	db := sql.OpenDB(
		pgdriver.NewConnector(pgdriver.WithNetwork("unix"),
			pgdriver.WithAddr(filepath.Join(dir, ".s.PGSQL.5432")), pgdriver.WithUser("postgres"),
			pgdriver.WithDatabase("postgres"), pgdriver.WithInsecure(true)),
	)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return address.String(), nil
		}
		select {
		case <-ended:
			return "", fmt.Errorf("failed to start PostgreSQL: %s", bytes.TrimSpace(stderr.Bytes()))
		case <-ctx.Done():
			return "", fmt.Errorf("failed to start PostgreSQL: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
})

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

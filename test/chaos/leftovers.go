package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// leftovers lists what still exists after all jobs have ended.
func (d *deployment) leftovers(ctx context.Context) ([]string, error) {
	var left []string
	for _, p := range d.parties {
		if p.dockerSocket != "" {
			containers, err := p.docker.ContainerList(ctx, container.ListOptions{All: true})
			if err != nil {
				return nil, err
			}
			for _, c := range containers {
				left = append(left,
					fmt.Sprintf("container %s at %s: %s", strings.Join(c.Names, " "), p.name, c.Status))
			}
			networks, err := p.docker.NetworkList(ctx, network.ListOptions{})
			if err != nil {
				return nil, err
			}
			own := 0 // the party keeps one
			for _, n := range networks {
				if n.Labels["hutong.node_id"] == p.node && own == 0 {
					own++
				} else if n.Name != "host" && n.Name != "none" && n.Name != "bridge" {
					left = append(left, fmt.Sprintf("network %s at %s", n.Name, p.name))
				}
			}
		}
		for _, line := range processesIn(filepath.Join(p.dir, "runs")) {
			left = append(left, fmt.Sprintf("process %s at %s", line, p.name))
		}
		for _, pattern := range []string{"runs/hutong-*", "spool*/tmp/*", "tmp/*"} {
			found, err := filepath.Glob(filepath.Join(p.dir, pattern))
			if err != nil {
				return nil, err
			}
			for _, path := range found {
				left = append(left, strings.TrimPrefix(path, d.dir+string(os.PathSeparator)))
			}
		}
	}
	servers := map[string]bool{}
	for _, p := range d.parties {
		servers[p.temporalName] = true
	}
	for _, server := range slices.Sorted(maps.Keys(servers)) {
		open, err := openWorkflows(ctx, filepath.Join(d.temporalDir(server), "temporal.db"))
		if err != nil {
			return nil, err
		}
		for _, id := range open {
			left = append(left, fmt.Sprintf("workflow %s is still running at the server %s", id, server))
		}
	}
	return left, nil
}

// session is one that a party's transport keeps.
type session struct{ party, id, folder string }

// sessions lists the sessions that the parties' transports have in their spools.
func (d *deployment) sessions() (found []session, err error) {
	for name, p := range d.parties {
		folders, err := filepath.Glob(filepath.Join(p.dir, "spool*", "s[0-9]*"))
		if err != nil {
			return nil, err
		}
		for _, folder := range folders {
			id, err := sessionIn(folder)
			if err != nil {
				return nil, err
			}
			found = append(found, session{party: name, id: id,
				folder: strings.TrimPrefix(folder, d.dir+string(os.PathSeparator))})
		}
	}
	return found, nil
}

var sessionID = regexp.MustCompile(`session_[0-9A-Za-z]+`)

// sessionIn returns the beginning of the id of the session that a folder of a spool belongs to, or "" if
// nothing in it names one. It may have vanished.
func sessionIn(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.log"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		f, err := os.Open(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		start := make([]byte, 512)
		n, err := io.ReadFull(f, start)
		_ = f.Close()
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return "", err
		}
		if id := sessionID.Find(start[:n]); id != nil {
			return string(id), nil
		}
	}
	return "", nil
}

// orphanedSessions returns a message for each session that was not released, although all jobs have ended.
func (f *observations) orphanedSessions() (orphans []string) {
	for _, s := range f.sessions {
		orphans = append(orphans, fmt.Sprintf("session %s of %s in %s", s.id, s.party, s.folder))
	}
	return orphans
}

// processesIn lists the processes whose working directory is below dir.
func processesIn(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir+"/") {
			found = append(found, strings.Split(link, "/")[2]+" in "+filepath.Base(cwd))
		}
	}
	return found
}

// openWorkflows returns the id of each workflow, except housekeeping and the restore mark, that still runs
// according to the Temporal server's own database.
func openWorkflows(ctx context.Context, file string) ([]string, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	found, err := db.QueryContext(
		ctx,
		`SELECT workflow_id FROM executions_visibility
			WHERE status = 1 AND workflow_type_name NOT IN ('Housekeeping', 'RestoreMark')
			ORDER BY workflow_id`,
	)
	if err != nil {
		return nil, fmt.Errorf("failed to read the Temporal server's database: %w", err)
	}
	defer func() { _ = found.Close() }()
	var open []string
	for found.Next() {
		var id string
		if err := found.Scan(&id); err != nil {
			return nil, err
		}
		open = append(open, id)
	}
	return open, found.Err()
}

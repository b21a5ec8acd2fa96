package support

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hutong/internal/doctor"
	"hutong/internal/httpclient"
	"hutong/internal/party"
)

const (
	// logBytes limits what is taken of the end of each log.
	logBytes = 4 << 20
	// timeout limits each of the journal, the database and a request to a process.
	timeout = 15 * time.Second
)

// Options say what to collect.
type Options struct {
	// Config is the party's configuration, or nil if ConfigError says why it is invalid. File is its file.
	Config      *party.Config
	ConfigError error
	// Environ is the environment, of which only the names of variables are collected.
	Environ []string
	// Version describes the program.
	Version string
	// Logs are files with logs of processes. Units are the systemd units whose journal is read.
	Logs  []string
	Units string
	// Lines limits the lines of each log, Failures the failed jobs.
	Lines, Failures int
	// Metrics are URLs of metrics and health besides those at ops.listen.
	Metrics []string
	// Time is the time of the archive.
	Time time.Time
}

// Collect collects everything. What can't be collected is missing in the archive, with the reason: a
// party that needs help may have no database.
func Collect(ctx context.Context, o Options) Archive {
	node := "unknown"
	var secrets []string
	if o.Config != nil {
		node, secrets = o.Config.NodeID, o.Config.SecretValues()
	}
	a := Archive{Time: o.Time, Folder: "hutong-support-" + strings.ToLower(node) + "-" +
		o.Time.UTC().Format("20060102T150405Z")}
	s := newScrubber(secrets)
	add := func(name, about string, data []byte, err error) {
		e := Entry{Name: name, About: about}
		if err != nil {
			clean, _ := s.scrub([]byte(err.Error()))
			e.Missing = strings.ReplaceAll(string(clean), "\n", "; ")
		} else {
			e.data, e.Removed = s.scrub(data)
			e.Bytes = len(e.data)
		}
		a.Entries = append(a.Entries, e)
	}
	withConfig := func(name, about string, collect func() ([]byte, error)) {
		if o.Config == nil {
			add(name, about, nil, errors.New("the configuration is invalid"))
			return
		}
		data, err := collect()
		add(name, about, data, err)
	}

	add("version.txt", "the versions of Hutong, Go and the machine's kernel", o.versions(), nil)
	configuration := func() ([]byte, error) { return o.Config.YAML() }
	if o.Config == nil {
		configuration = func() ([]byte, error) { return nil, o.ConfigError }
	}
	data, err := configuration()
	add("configuration.yaml", "the effective configuration, with secrets as ***", data, err)
	add("environment.txt", "the names of the HUTONG_ variables that are set, without values",
		o.variables(), nil)
	withConfig("doctor.json", "the report of hutong doctor", func() ([]byte, error) {
		return asJSON(doctor.Examine(ctx, o.Config))
	})
	withConfig("state.json", "how many jobs are in which state, and the runners", func() ([]byte, error) {
		return state(ctx, o.Config)
	})
	withConfig("failures.json", "why the last jobs failed, without messages and logs of algorithms",
		func() ([]byte, error) { return failures(ctx, o.Config, o.Time, o.Failures) })
	for _, endpoint := range o.endpoints() {
		data, err := fetch(ctx, endpoint.url)
		add(endpoint.name, "what "+endpoint.url+" answers", data, err)
	}
	if o.Units != "" {
		data, err = journal(ctx, o.Units, o.Lines)
		add("journal.log", fmt.Sprintf("the last lines of the journal of the units %s, at most %d", o.Units,
			o.Lines), data, err)
	}
	for i, file := range o.Logs {
		data, err = tail(file, o.Lines)
		add(fmt.Sprintf("log-%d.log", i+1), fmt.Sprintf("the last lines of %s, at most %d", file,
			o.Lines), data,
			err)
	}
	return a
}

func (o Options) versions() []byte {
	var b bytes.Buffer
	_, _ = fmt.Fprintf(&b, "%s\n%s/%s, %d processors\n", o.Version, runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU())
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		_, _ = fmt.Fprintf(&b, "kernel %s %s\n", unix.ByteSliceToString(name.Release[:]),
			unix.ByteSliceToString(name.Version[:]))
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		unit := uint64(info.Unit)
		_, _ = fmt.Fprintf(&b, "memory %d MiB, up %s\n", uint64(info.Totalram)*unit>>20,
			time.Duration(info.Uptime)*time.Second)
	}
	_, _ = fmt.Fprintf(&b, "collected at %s\n", o.Time.UTC().Format(time.RFC3339))
	return b.Bytes()
}

func (o Options) variables() []byte {
	var names []string
	for _, variable := range o.Environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, party.EnvPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return []byte(strings.Join(append(names, ""), "\n"))
}

type endpoint struct{ name, url string }

func (o Options) endpoints() (found []endpoint) {
	if o.Config != nil && o.Config.Ops.Listen != "" {
		if host, port, err := net.SplitHostPort(o.Config.Ops.Listen); err == nil {
			if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
				host = "127.0.0.1"
			}
			base := "http://" + net.JoinHostPort(host, port)
			found = append(found, endpoint{"healthz.txt", base + "/healthz"}, endpoint{"readyz.txt",
				base + "/readyz"},
				endpoint{"metrics.txt", base + "/metrics"})
		}
	}
	for i, url := range o.Metrics {
		found = append(found, endpoint{fmt.Sprintf("metrics-%d.txt", i+1), url})
	}
	return found
}

// fetch reads an answer, with its status if that is not 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := httpclient.Direct()
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusNotFound {
		return nil, errors.New("it is not served there")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, logBytes))
	if err == nil && response.StatusCode != http.StatusOK {
		body = append([]byte(response.Status+"\n"), body...)
	}
	return body, err
}

// journal reads the last lines of systemd's journal.
func journal(ctx context.Context, units string, lines int) ([]byte, error) {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return nil, errors.New("this machine has no journalctl; name the logs of the processes with --log")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--unit", units, "--lines", fmt.Sprint(lines), "--output",
		"short-iso-precise", "--no-pager", "--quiet")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("failed to read the journal: %w: %s", err,
			strings.TrimSpace(complaint.String()))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the journal has no line of %s that this user may read", units)
	}
	return lastLines(out, lines), nil
}

// tail reads the last lines of a file.
func tail(path string, lines int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	start := max(0, info.Size()-logBytes)
	data, err := io.ReadAll(io.NewSectionReader(file, start, info.Size()-start))
	if start > 0 { // the first line is cut
		if end := bytes.IndexByte(data, '\n'); end >= 0 {
			data = data[end+1:]
		}
	}
	return lastLines(data, lines), err
}

func lastLines(data []byte, lines int) []byte {
	data = data[max(0, len(data)-logBytes):]
	at := len(bytes.TrimSuffix(data, []byte("\n")))
	for range lines {
		if at = bytes.LastIndexByte(data[:at], '\n'); at < 0 {
			return data
		}
	}
	return data[at+1:]
}

func asJSON(document any) ([]byte, error) {
	data, err := json.MarshalIndent(document, "", "  ")
	return append(data, '\n'), err
}

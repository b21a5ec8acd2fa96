// Command pictures draws the pictures of the README again: docs/watch.png and docs/temporal-ui.png. It runs
// the reference job in a development deployment, and needs bin/hutong, Chromium and script (util-linux).
package main

import (
	"context"
	"flag"
	"fmt"
	"html"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	chromium := flag.String("chromium", "chromium", "the browser")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := draw(ctx, *chromium); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func draw(ctx context.Context, chromium string) error {
	dir, err := os.MkdirTemp("", "pictures-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	guest, ui, stop, err := startDev(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()

	jobID, watch, err := watchJob(ctx, guest)
	if err != nil {
		return err
	}
	page := filepath.Join(dir, "watch.html")
	if err := os.WriteFile(page, []byte(terminalPage(watch)), 0o600); err != nil {
		return err
	}
	height := 40 + 19*(1+strings.Count(watch, "\n"))
	if err := screenshot(ctx, chromium, dir, "file://"+page, "docs/watch.png", 1200, height); err != nil {
		return err
	}
	url := ui + "/namespaces/hutong-jg0100001100000010/workflows/" + "participant-job%2F" + jobID
	return screenshot(ctx, chromium, dir, url, "docs/temporal-ui.png", 1500, 1250)
}

// startDev starts two parties, and returns the URLs of the guest and of Temporal's UI.
func startDev(ctx context.Context, dir string) (guest, ui string, stop func(), err error) {
	port, err := freePorts()
	if err != nil {
		return "", "", nil, err
	}
	guestAddress, hostAddress := "127.0.0.1:"+port(2), "127.0.0.1:"+port(4)
	cmd := exec.CommandContext(ctx, "bin/hutong", "dev", "--no-docker", "--data-dir",
		filepath.Join(dir, "data"),
		"--temporal-port", port(0), "--ui-port", port(1), "--party", "JG0100001100000010="+guestAddress,
		"--party", "JG0110017800000000="+hostAddress)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	guest = "http://" + guestAddress
	provider := filepath.Join(dir, "provider.json")
	if err := writeProvider(provider); err != nil {
		return "", "", stop, err
	}
	host := "http://" + hostAddress
	for _, step := range [][]string{
		{guest, "provider", "register", provider}, {host, "provider", "register", provider},
		{guest, "data", "upload", "--file", "testdata/breast/guest.csv", "--namespace", "demo", "--name",
			"breast_guest", "--id", "id", "--label", "y"},
		{host, "data", "upload", "--file", "testdata/breast/host.csv", "--namespace", "demo", "--name",
			"breast_host",
			"--id", "id"},
	} {
		if err := retry(ctx, step[0], step[1:]...); err != nil {
			return "", "", stop, err
		}
	}
	return guest, "http://127.0.0.1:" + port(1), stop, nil
}

// freePorts finds a range of free ports.
func freePorts() (func(n int) string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	first := l.Addr().(*net.TCPAddr).Port + 1
	return func(n int) string { return strconv.Itoa(first + n) }, nil
}

// writeProvider writes the reference provider's registration for the process driver.
func writeProvider(path string) error {
	text, err := os.ReadFile("providers/reference/provider.json")
	if err != nil {
		return err
	}
	program, err := filepath.Abs("bin/provider")
	if err != nil {
		return err
	}
	edited := regexp.MustCompile(`"device": *"docker"`).ReplaceAllString(string(text), `"device": "process"`)
	edited = regexp.MustCompile(`"image": *"[^"]*"`).
		ReplaceAllString(edited, `"command": [`+strconv.Quote(program)+`]`)
	return os.WriteFile(path, []byte(edited), 0o600)
}

// retry runs a client command until it succeeds, since the party may still start.
func retry(ctx context.Context, url string, args ...string) error {
	for {
		out, err := exec.CommandContext(ctx, "bin/hutong",
			append([]string{"--url", url}, args...)...).CombinedOutput()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("hutong %s: %w: %s", strings.Join(args, " "), err, out)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// watchJob runs the reference job, and returns what a terminal shows of it.
func watchJob(ctx context.Context, guest string) (jobID, screen string, err error) {
	show := func(command string) error {
		text, err := onTerminal(ctx, guest, command)
		screen += text
		return err
	}
	out, err := exec.CommandContext(ctx, "bin/hutong", "--url", guest, "job", "submit",
		"deploy/demo/job.json").Output()
	if err != nil {
		return "", "", err
	}
	jobID = strings.TrimSpace(string(out))
	screen = "$ bin/hutong job submit deploy/demo/job.json --watch\n\n"
	time.Sleep(3 * time.Second) // the first task runs
	if err := show("job status " + jobID); err != nil {
		return "", "", err
	}
	screen += "\n  …\n\n"
	if out, err := exec.CommandContext(ctx, "bin/hutong", "--url", guest, "job", "watch",
		jobID).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("%w: %s", err, out)
	}
	for _, command := range []string{"job status " + jobID, "job outputs " + jobID + " --show"} {
		if err := show(command); err != nil {
			return "", "", err
		}
	}
	return jobID, strings.TrimRight(screen, "\n"), nil
}

// onTerminal returns what a client command prints on a terminal of 110 columns, with its colours.
func onTerminal(ctx context.Context, url, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "script", "-qec",
		"stty cols 110 rows 50; bin/hutong --url "+url+" "+command,
		"/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm-256color")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hutong %s: %w: %s", command, err, out)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n"), nil
}

var sequence = regexp.MustCompile("\x1b\\[([0-9;]*)([A-Za-z])")

// colours are those of a usual terminal, by the code of ANSI.
var colours = map[string]string{"31": "#f55", "32": "#3f3", "33": "#fd4", "34": "#66f", "91": "#f55",
	"92": "#3f3",
	"93": "#fd4", "94": "#66f"}

// terminalPage returns a page that shows text with ANSI's colours as a terminal does.
func terminalPage(text string) string {
	var page strings.Builder
	page.WriteString("<meta charset=utf-8><style>body{background:#000;color:#eee;margin:20px 26px}" +
		"pre{font:15px/19px 'DejaVu Sans Mono',monospace;margin:0}</style><pre>")
	open, at := 0, 0
	for _, m := range sequence.FindAllStringSubmatchIndex(text, -1) {
		page.WriteString(html.EscapeString(text[at:m[0]]))
		at = m[1]
		if text[m[4]:m[5]] != "m" {
			continue
		}
		for _, code := range strings.Split(text[m[2]:m[3]], ";") {
			style := ""
			switch {
			case code == "" || code == "0":
				page.WriteString(strings.Repeat("</span>", open))
				open = 0
			case code == "1":
				style = "font-weight:bold"
			case code == "2":
				style = "opacity:.6"
			case colours[code] != "":
				style = "color:" + colours[code]
			}
			if style != "" {
				fmt.Fprintf(&page, "<span style=%q>", style)
				open++
			}
		}
	}
	page.WriteString(html.EscapeString(text[at:]) + "</pre>")
	return page.String()
}

func screenshot(ctx context.Context, chromium, dir, url, to string, width, height int) error {
	out, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu",
		"--hide-scrollbars",
		"--user-data-dir="+filepath.Join(dir, "browser"), "--virtual-time-budget=15000",
		fmt.Sprintf("--window-size=%d,%d", width, height), "--force-device-scale-factor=1",
		"--screenshot="+to, url).CombinedOutput()
	if err != nil {
		return fmt.Errorf("failed to draw %s: %w: %s", to, err, out)
	}
	return nil
}

// Prog is the program of the containers in the drivers' tests. Its arguments are a sequence of commands.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command runs with its arguments.
type command struct {
	arguments int // their number; -1 is all that follow
	run       func(args []string)
}

var commands = map[string]command{
	"exit":     {1, func(args []string) { os.Exit(number(args[0])) }},         // exit CODE
	"control":  {1, serveControl},                                             // control ANSWER
	"print":    {1, func(args []string) { fmt.Println(args[0]) }},             // print TEXT
	"printerr": {1, func(args []string) { fmt.Fprintln(os.Stderr, args[0]) }}, // printerr TEXT
	// unended TEXT: without a newline
	"unended": {1, func(args []string) { fmt.Print(args[0]) }},
	"bar":     {1, drawBar}, // bar FILE: a progress bar until it exists
	"long": {1, func(args []string) { // long BYTES: one line
		fmt.Println(strings.Repeat("x", number(args[0])))
	}},
	"lines":        {1, printLines}, // lines COUNT
	"sleep":        {1, sleep},      // sleep DURATION
	"forever":      {0, func([]string) { time.Sleep(24 * time.Hour) }},
	"ignoreterm":   {0, func([]string) { signal.Ignore(syscall.SIGTERM) }},
	"term":         {1, exitAtTerm},                                // term CODE: exit with it at SIGTERM
	"env":          {0, printEnv},                                  // print a hash of each variable
	"append":       {2, appendText},                                // append FILE TEXT
	"cannotappend": {1, cannotAppend},                              // cannotappend FILE
	"cat":          {1, printFile},                                 // cat FILE
	"wait":         {1, func(args []string) { waitFile(args[0]) }}, // wait FILE: until it exists
	"get":          {1, get},                                       // get ADDRESS: print what it sends
	"listen":       {1, listen},                                    // listen PORT: send hello to every client
	"cannotget":    {1, cannotGet},                                 // cannotget ADDRESS
	"address":      {0, printAddresses},
	"eat":          {1, eat},         // eat BYTES of memory
	"burn":         {1, burn},        // burn DURATION of CPU time
	"child":        {-1, startChild}, // child ARG...: run the rest in a child process, without waiting
	"kill":         {1, kill},        // kill SIGNAL: send it to this process
	"pwd":          {0, printDir},
	"limits":       {0, printLimits},  // print the limits of core files and open files
	"secret":       {1, writeSecrets}, // secret DIR: write files there that other users can't read
	"setuid": {1, func(args []string) { // setuid FILE: make it run as its owner
		check(os.Chmod(args[0], 0o755|os.ModeSetuid))
	}},
	"size": {1, printSize}, // size DIR: print the bytes of its file system
}

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		if args[0] == "until" { // until FILE ...: run the rest, then wait until the file exists
			defer waitFile(args[1])
			args = args[2:]
			continue
		}

		c, ok := commands[args[0]]
		if !ok {
			check(fmt.Errorf("unknown: %q", args[0]))
		}
		args = args[1:]

		n := c.arguments
		if n < 0 {
			n = len(args)
		}
		c.run(args[:n])
		args = args[n:]
	}
}

// serveControl answers status requests of the task.
func serveControl(args []string) {
	http.HandleFunc("POST /v1/platform/algorithm/task/query", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"task_id":"`+os.Getenv("config.task_id")+`"}` {
			w.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprint(w, args[0])
	})
	check(http.ListenAndServe(":"+os.Getenv("system.control_port"), nil))
}

func printLines(args []string) {
	out := bufio.NewWriter(os.Stdout)
	for i := range number(args[0]) {
		fmt.Fprintf(out, "line %d of many, to be seen in this order\n", i)
	}
	out.Flush()
}

func sleep(args []string) {
	d, err := time.ParseDuration(args[0])
	check(err)
	time.Sleep(d)
}

func exitAtTerm(args []string) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	code := number(args[0])
	go func() { <-c; fmt.Println("terminated"); os.Exit(code) }()
}

func printEnv([]string) {
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		fmt.Printf("%q %d %x\n", name, len(value), sha256.Sum256([]byte(value)))
	}
}

func appendText(args []string) {
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	check(err)
	_, err = f.WriteString(args[1])
	check(err)
	check(f.Close())
}

func cannotAppend(args []string) {
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		f.Close()
		check(fmt.Errorf("could write to %s", args[0]))
	}
}

func printFile(args []string) {
	b, err := os.ReadFile(args[0])
	check(err)
	fmt.Print(string(b))
}

func waitFile(file string) {
	for {
		if _, err := os.Stat(file); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func drawBar(args []string) {
	for i := 0; ; i++ {
		fmt.Printf("\r %d%%|█", i)
		if _, err := os.Stat(args[0]); err == nil {
			fmt.Print("\r 100%|██\n")
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func get(args []string) {
	c, err := net.DialTimeout("tcp", args[0], 10*time.Second)
	check(err)
	b, err := io.ReadAll(c)
	check(err)
	fmt.Println(string(b))
}

func listen(args []string) {
	l, err := net.Listen("tcp", ":"+args[0])
	check(err)
	go func() {
		for {
			c, err := l.Accept()
			check(err)
			fmt.Fprint(c, "hello")
			c.Close()
		}
	}()
}

func cannotGet(args []string) {
	if c, err := net.DialTimeout("tcp", args[0], 2*time.Second); err == nil {
		c.Close()
		check(fmt.Errorf("reached %s", args[0]))
	}
}

func printAddresses([]string) {
	addrs, err := net.InterfaceAddrs()
	check(err)
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP; !ip.IsLoopback() && ip.To4() != nil {
			fmt.Println(ip)
		}
	}
}

func eat(args []string) {
	b := make([]byte, number(args[0]))
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

func burn(args []string) {
	d, err := time.ParseDuration(args[0])
	check(err)
	used := func() time.Duration {
		var r syscall.Rusage
		check(syscall.Getrusage(syscall.RUSAGE_SELF, &r))
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	for end := used() + d; used() < end; {
	}
}

func startChild(args []string) {
	self, err := os.Executable()
	check(err)
	c := exec.Command(self, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	check(c.Start())
}

func kill(args []string) {
	check(syscall.Kill(os.Getpid(), syscall.Signal(number(args[0]))))
	select {}
}

func writeSecrets(args []string) {
	for _, f := range []struct {
		name      string
		file, dir os.FileMode
	}{{"private/deep/data", 0o644, 0o700}, {"public/data", 0o600, 0o755}, {"data", 0o600, 0o777}} {
		file := args[0] + "/" + f.name
		check(os.MkdirAll(path.Dir(file), f.dir))
		check(os.WriteFile(file, []byte("rows of "+f.name), f.file))
	}
}

func printSize(args []string) {
	var s syscall.Statfs_t
	check(syscall.Statfs(args[0], &s))
	fmt.Println(int64(s.Blocks) * s.Bsize)
}

func printDir([]string) {
	wd, err := os.Getwd()
	check(err)
	fmt.Println(wd)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)

	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

func printLimits([]string) {
	for _, resource := range []int{syscall.RLIMIT_CORE, syscall.RLIMIT_NOFILE} {
		var limit syscall.Rlimit
		check(syscall.Getrlimit(resource, &limit))
		fmt.Println(limit.Max)
	}
}

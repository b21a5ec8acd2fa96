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
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		n := 1
		switch args[0] {
		case "exit": // exit CODE
			os.Exit(number(args[1]))
		case "control": // control ANSWER: serve it to status requests of the task
			http.HandleFunc(
				"POST /v1/platform/algorithm/task/query",
				func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil || string(body) != `{"task_id":"`+os.Getenv("config.task_id")+`"}` {
						w.WriteHeader(http.StatusBadRequest)
					}
					fmt.Fprint(w, args[1])
				},
			)
			check(http.ListenAndServe(":"+os.Getenv("system.control_port"), nil))
		case "print": // print TEXT
			fmt.Println(args[1])
			n = 2
		case "printerr":
			fmt.Fprintln(os.Stderr, args[1])
			n = 2
		case "unended": // unended TEXT: print it without a newline
			fmt.Print(args[1])
			n = 2
		case "long": // long BYTES: one line
			fmt.Println(strings.Repeat("x", number(args[1])))
			n = 2
		case "lines": // lines COUNT
			out := bufio.NewWriter(os.Stdout)
			for i := range number(args[1]) {
				fmt.Fprintf(out, "line %d of many, to be seen in this order\n", i)
			}
			out.Flush()
			n = 2
		case "sleep": // sleep DURATION
			d, err := time.ParseDuration(args[1])
			check(err)
			time.Sleep(d)
			n = 2
		case "forever":
			time.Sleep(24 * time.Hour)
		case "ignoreterm":
			signal.Ignore(syscall.SIGTERM)
		case "term": // term CODE: exit with it at SIGTERM
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			code := number(args[1])
			go func() { <-c; fmt.Println("terminated"); os.Exit(code) }()
			n = 2
		case "env": // print a hash of each variable
			for _, e := range os.Environ() {
				name, value, _ := strings.Cut(e, "=")
				fmt.Printf("%q %d %x\n", name, len(value), sha256.Sum256([]byte(value)))
			}
		case "append": // append FILE TEXT
			f, err := os.OpenFile(args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			check(err)
			_, err = f.WriteString(args[2])
			check(err)
			check(f.Close())
			n = 3
		case "cannotappend": // cannotappend FILE
			f, err := os.OpenFile(args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err == nil {
				f.Close()
				check(fmt.Errorf("could write to %s", args[1]))
			}
			n = 2
		case "cat": // cat FILE
			b, err := os.ReadFile(args[1])
			check(err)
			fmt.Print(string(b))
			n = 2
		case "wait": // wait FILE: until it exists
			for {
				if _, err := os.Stat(args[1]); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			n = 2
		case "get": // get ADDRESS: print what it sends
			c, err := net.DialTimeout("tcp", args[1], 10*time.Second)
			check(err)
			b, err := io.ReadAll(c)
			check(err)
			fmt.Println(string(b))
			n = 2
		case "listen": // listen PORT: send hello to every client
			l, err := net.Listen("tcp", ":"+args[1])
			check(err)
			go func() {
				for {
					c, err := l.Accept()
					check(err)
					fmt.Fprint(c, "hello")
					c.Close()
				}
			}()
			n = 2
		case "cannotget": // cannotget ADDRESS
			if c, err := net.DialTimeout("tcp", args[1], 2*time.Second); err == nil {
				c.Close()
				check(fmt.Errorf("reached %s", args[1]))
			}
			n = 2
		case "address":
			addrs, err := net.InterfaceAddrs()
			check(err)
			for _, a := range addrs {
				if ip := a.(*net.IPNet).IP; !ip.IsLoopback() && ip.To4() != nil {
					fmt.Println(ip)
				}
			}
		case "eat": // eat BYTES of memory
			b := make([]byte, number(args[1]))
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
		case "child": // child ARG...: run the rest in a child process, without waiting
			self, err := os.Executable()
			check(err)
			c := exec.Command(self, args[1:]...)
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			check(c.Start())
			n = len(args)
		case "kill": // kill SIGNAL: send it to this process
			check(syscall.Kill(os.Getpid(), syscall.Signal(number(args[1]))))
			select {}
		case "until": // until FILE ...: run the rest, then wait until the file exists
			file := args[1]
			defer func() {
				for {
					if _, err := os.Stat(file); err == nil {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			n = 2
		case "pwd":
			wd, err := os.Getwd()
			check(err)
			fmt.Println(wd)
		default:
			check(fmt.Errorf("unknown: %q", args[0]))
		}
		args = args[n:]
	}
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

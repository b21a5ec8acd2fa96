// Bench measures what Hutong adds to the containers that a job is made of, from one run on this machine.
//
// The job is the seed's, intersection and then boosting at a guest and a host, but its containers only call back. It is
// submitted over REST to `hutong dev` in a process of its own, with two parties, and timed from the submission until
// its status is FINISHED. Against it stand the same containers, with the very configuration that Docker tells of the
// job's own (image, environment, limits, mounts, network), made, started, waited for and removed by the Docker API
// alone. What is compared runs in turns, so that what else the machine does hits both; medians are compared.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/docker/docker/client"

	"hutong/deploy/provider/image"
)

type options struct {
	runs, rounds, jobs   int
	hutong, provider     string
	profile, only        string
	strict, quick, noisy bool
}

func main() {
	var o options
	flag.IntVar(&o.runs, "runs", 15, "single jobs to take the median of")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of many jobs at once to take the median of")
	flag.IntVar(&o.jobs, "jobs", 20, "jobs at once in a round")
	flag.StringVar(&o.hutong, "hutong", "", "the hutong binary (default: the one beside this program)")
	flag.StringVar(&o.profile, "profile", "", "a folder for CPU profiles of hutong, one of each case")
	flag.StringVar(&o.only, "only", "", "bridge, host or process: measure just that")
	flag.BoolVar(&o.strict, "strict", false, "exit with 1 if a ratio is over its target")
	flag.BoolVar(&o.quick, "quick", false, "few runs: does it work, rather than how fast is it")
	flag.BoolVar(&o.noisy, "verbose", false, "print every run, and the log of hutong")
	flag.Parse()
	if o.quick {
		o.runs, o.rounds = 3, 1
	}
	runtime.LockOSThread() // the children that it starts end with this thread
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	over, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if over && o.strict {
		os.Exit(1)
	}
}

// tag is the reference provider's image under a name that nothing else uses.
const tag = "hutong/bench:1"

// Targets for containers on a bridge: the most that Hutong may take, as a multiple of what Docker alone takes.
const (
	targetOne  = 1.5
	targetMany = 1.3
)

func run(ctx context.Context, o options) (over bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	if o.hutong == "" {
		o.hutong = filepath.Join(filepath.Dir(self), "hutong")
	}
	if o.hutong, err = filepath.Abs(o.hutong); err != nil {
		return false, err
	}
	o.provider = filepath.Join(filepath.Dir(o.hutong), "provider")
	for _, program := range []string{o.hutong, o.provider} {
		if _, err := os.Stat(program); err != nil {
			return false, fmt.Errorf("%w; make build makes it", err)
		}
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return false, err
	}
	defer func() { _ = docker.Close() }()
	var all report
	defer func() { all.print(os.Stdout, o) }() // also what was measured before something broke
	if _, err := docker.Ping(ctx); err != nil {
		fmt.Println("No Docker Engine answers, so only processes are measured:", err)
	} else {
		if err := image.Load(ctx, docker, o.provider, tag); err != nil {
			return false, err
		}
		for _, c := range []dockerCase{{short: "bridge", name: "containers on a bridge", targetOne: targetOne, targetMany: targetMany},
			{short: "host", name: "containers on the host's network", hostNetwork: true}} {
			if o.only != "" && o.only != c.short {
				continue
			}
			if err := c.measure(ctx, o, docker, &all); err != nil {
				return false, fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	if o.only == "" || o.only == "process" {
		if err := measureProcesses(ctx, o, &all); err != nil {
			return false, fmt.Errorf("processes: %w", err)
		}
	}
	return all.over(), nil
}

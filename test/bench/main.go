// Bench measures what Hutong costs and how that grows, each figure as a ratio within one run on this machine.
//
// Hutong is a `hutong dev` in a process of its own: two parties and the embedded engine. What it is held against runs in
// the same run, in turns where it can, so that what else the machine does hits both; medians are compared. The sections:
//
//   - bridge, host: the seed's job, intersection and then boosting at a guest and a host, whose containers only call back,
//     against the same containers, with the very configuration that Docker tells of the job's own, by the Docker API alone;
//   - process: the same job with processes instead of containers;
//   - engine: jobs of processes that end at once, against workflows with as many activities that do nothing;
//   - submit: requests for new jobs by 1, 8 and 64 clients;
//   - read: a job's status and a page of the list of jobs, with 10,000 jobs in the store and with 200;
//   - dags, jobs: how a task's and a job's time and the memory grow with their number;
//   - peer: the seed's job on FATE-Flow 2.2.0; only where it is asked for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/client"

	"hutong/internal/image"
)

type options struct {
	runs, rounds     int
	many             []int // jobs at once
	tasks, jobs      []int // sizes of DAGs, numbers of jobs
	stored           int
	hutong, provider string
	profile          string
	database         string
	cache            string
	verbose          bool
}

// section is a part of the bench that can be asked for.
type section struct {
	name      string
	byDefault bool // without being asked for
	measure   func(context.Context, options, *report) error
}

var sections = []section{
	{"bridge", true, dockerCase{short: "bridge", name: "containers on a bridge", one: atMost(1.3), many: atMost(1.2)}.run},
	{"host", true, dockerCase{short: "host", name: "containers on the host's network", hostNetwork: true}.run},
	{"process", true, measureProcesses},
	{"engine", true, measureTemporal},
	{"submit", true, measureSubmission},
	{"read", true, measureReads},
	{"dags", true, measureDAGs},
	{"jobs", true, measureJobs},
	{"peer", false, measurePeer},
}

func main() {
	var o options
	only := flag.String("only", "", "the sections to measure, separated by commas: "+sectionNames())
	many := flag.String("many", "20,100", "jobs at once in a round of containers")
	tasks := flag.String("tasks", "10,100,1000", "tasks of the DAGs")
	jobs := flag.String("jobs", "10,100,1000", "jobs that are submitted at once")
	flag.IntVar(&o.runs, "runs", 11, "single jobs to take the median of")
	flag.IntVar(&o.rounds, "rounds", 2, "rounds of up to 20 jobs at once to take the median of; more at once have one round")
	flag.IntVar(&o.stored, "stored", 10_000, "jobs in the store when its reads are measured")
	flag.StringVar(&o.database, "database", "", "an empty PostgreSQL database, whose reads are measured too: postgres://...")
	flag.StringVar(&o.hutong, "hutong", "", "the hutong binary (default: the one beside this program)")
	flag.StringVar(&o.profile, "profile", "", "a folder for profiles of hutong, CPU and allocations, of each section")
	flag.StringVar(&o.cache, "cache", "", "where test/interop/fateflow/install.sh has put FATE-Flow, for the section peer")
	strict := flag.Bool("strict", false, "exit with 1 if a ratio misses its target")
	quick := flag.Bool("quick", false, "few and small: does it work, rather than how fast is it")
	flag.BoolVar(&o.verbose, "verbose", false, "print every run, and the log of hutong")
	flag.Parse()
	if *quick {
		o.runs, o.rounds, o.stored, *many, *tasks, *jobs = 3, 1, 1000, "5", "10,50", "5,20"
	}
	var wrong error
	if o.stored <= fewStored {
		wrong = fmt.Errorf("-stored %d: must be above %d", o.stored, fewStored)
	}
	for flag, sizes := range map[*string]*[]int{many: &o.many, tasks: &o.tasks, jobs: &o.jobs} {
		for _, text := range strings.Split(*flag, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 2 {
				wrong = errors.Join(wrong, fmt.Errorf("%q is no number above 1", text))
			}
			*sizes = append(*sizes, n)
		}
	}
	chosen, err := selectSections(*only)
	if err = errors.Join(wrong, err); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	runtime.LockOSThread() // the children that it starts end with this thread
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	missed, err := run(ctx, o, chosen)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	if missed && *strict {
		os.Exit(1)
	}
}

func sectionNames() string {
	var all []string
	for _, s := range sections {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}

// choose finds the sections that are asked for; nothing asks for the usual ones.
func selectSections(only string) ([]section, error) {
	var chosen []section
	for _, s := range sections {
		if only == "" && s.byDefault || only != "" && slices.Contains(strings.Split(only, ","), s.name) {
			chosen = append(chosen, s)
		}
	}
	if only != "" && len(chosen) != len(strings.Split(only, ",")) {
		return nil, fmt.Errorf("-only %s: the sections are %s", only, sectionNames())
	}
	return chosen, nil
}

// tag is the reference provider's image under a name that nothing else uses.
const imageTag = "hutong/bench:1"

func run(ctx context.Context, o options, chosen []section) (missed bool, err error) {
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
	var all report
	defer func() { all.print(os.Stdout) }() // also what was measured before something broke
	for _, s := range chosen {
		began := time.Now()
		fmt.Printf("\n%s (load %s)\n", s.name, load())
		if err := s.measure(ctx, o, &all); err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("%s took %.0f s (load %s)\n", s.name, time.Since(began).Seconds(), load())
	}
	return all.missesTarget(), nil
}

// load is the machine's load, so that who reads the results knows what else went on.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) == 0 {
		return "unknown"
	}
	return fields[0] + " on " + strconv.Itoa(runtime.NumCPU()) + " cores"
}

// engine connects to Docker and gives it the reference provider's image. Without Docker there is none, and no error.
func (o options) connectDocker(ctx context.Context) (*client.Client, error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	if _, err := docker.Ping(ctx); err != nil {
		fmt.Println("No Docker Engine answers, so containers are not measured:", err)
		return nil, docker.Close()
	}
	if err := image.Load(ctx, docker, o.provider, imageTag); err != nil {
		return nil, errors.Join(err, docker.Close())
	}
	return docker, nil
}

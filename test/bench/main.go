// Bench measures the overhead of Hutong and how it grows, each figure as a ratio to a baseline on the same
// machine.
//
// Hutong runs as a separate `hutong dev` process: two parties and the embedded Temporal server. The baseline
// is measured in the same run, alternately where possible, so that other load affects both. Medians are
// compared. The sections:
//
//   - bridge, host: the reference job, intersection and then boosting at a guest and a host, whose containers
//     only call back, against the same containers with the same configuration, run through the Docker API;
//   - process: the same job with processes instead of containers;
//   - temporal: jobs of processes that end at once, against workflows with as many empty activities;
//   - submit: requests for new jobs by 1, 8 and 64 clients;
//   - queue: a job's end, the start of the next, and a restart, with 10,000 waiting jobs and with 100;
//   - read: a job's status and a page of the list of jobs, with 10,000 jobs in the store and with 200;
//   - stored: what the store does again and again, with 100,000 ended jobs and with 1,000;
//   - dags, jobs: how the time of a task and of a job and the memory grow with their number;
//   - parties: jobs of 100 parties against jobs of 10, and 1,000 partners against one;
//   - transport: messages between two parties, against two bare HTTP hops;
//   - capacity: what the program predicts that jobs need, against what they take;
//   - security: the reference job between parties with all security on, against parties with all of it off;
//   - soak: memory, goroutines, files and databases of two parties while jobs run for half an hour; not
//     measured by default;
//   - peer: the reference job on FATE-Flow 2.2.0; not measured by default;
//   - fate: a job of FATE's own components on FATE-Flow 2.2.0; not measured by default.
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
	parties          []int // of one job
	partners         int   // of a party
	stored, waiting  int
	capacityWork     int // of the jobs of a measurement, in tasks at parties
	capacityIdle     time.Duration
	messages         int // of 1 MB
	fairFor, soak    time.Duration
	costs            string // a file
	ended            int
	hutong, provider string
	profile          string
	database         string
	cache            string
	verbose          bool
}

// section is a part of the benchmark that the flag -only selects.
type section struct {
	name      string
	byDefault bool // without being asked for
	measure   func(context.Context, options, *report) error
}

var sections = []section{
	{"bridge", true,
		dockerCase{short: "bridge", name: "containers on a bridge", one: atMost(1.3), many: atMost(1.2)}.run},
	{"host", true, dockerCase{short: "host", name: "containers on the host network", hostNetwork: true}.run},
	{"process", true, measureProcesses},
	{"temporal", true, measureTemporal},
	{"submit", true, measureSubmission},
	{"queue", true, measureQueue},
	{"read", true, measureReads},
	{"stored", true, measureStored},
	{"dags", true, measureDAGs},
	{"jobs", true, measureJobs},
	{"parties", true, measureParties},
	{"security", true, measureSecurity},
	{"transport", true, measureTransport},
	{"capacity", true, measureCapacity},
	{"soak", false, measureSoak},
	{"peer", false, measurePeer},
	{"fate", false, measureFATE},
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == hopCommand {
		fmt.Fprintln(os.Stderr, serveHop(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	var o options
	only := flag.String("only", "", "sections to measure, separated by commas: "+sectionNames())
	many := flag.String("many", "20,100", "numbers of jobs at once that run containers")
	tasks := flag.String("tasks", "10,100,1000", "numbers of tasks of the DAGs")
	parties := flag.String("parties", "10,100", "numbers of parties of one job")
	flag.IntVar(&o.partners, "partners", 1000, "partners of a party")
	jobs := flag.String("jobs", "10,100,1000", "numbers of jobs at once that run processes")
	flag.IntVar(&o.runs, "runs", 11, "measurements of one job, whose median counts")
	flag.IntVar(&o.rounds, "rounds", 2,
		"measurements of up to 20 jobs at once, whose median counts; more jobs are measured once")
	flag.IntVar(&o.stored, "stored", 10_000, "jobs in the store while reads are measured")
	flag.IntVar(&o.ended, "ended", 100_000, "ended jobs in the store while the store alone is measured")
	flag.IntVar(&o.waiting, "waiting", 10_000, "jobs that wait while the queue is measured")
	flag.DurationVar(&o.soak, "soak", 30*time.Minute, "how long the section soak takes")
	flag.StringVar(&o.database, "database", "",
		"URL of an empty PostgreSQL database whose reads are measured too: postgres://...")
	flag.StringVar(&o.hutong, "hutong", "",
		"the hutong binary (default the one in the folder of this program)")
	flag.StringVar(&o.profile, "profile", "", "folder for CPU profiles of hutong in each section")
	flag.StringVar(&o.costs, "costs", "",
		"file to which the section capacity writes the costs, such as internal/capacity/costs.json")
	flag.StringVar(&o.cache, "cache", "",
		"folder in which test/interop/fateflow/install.sh has installed FATE-Flow, for the sections peer and fate")
	strict := flag.Bool("strict", false, "exit with code 1 if a ratio misses its target")
	quick := flag.Bool("quick", false, "measure few and small jobs, to test this program")
	flag.BoolVar(&o.verbose, "verbose", false, "print every measurement and the log of hutong")
	flag.Parse()
	o.capacityWork, o.capacityIdle, o.messages, o.fairFor = 2000, 20*time.Second, 300, 10*time.Second
	if *quick {
		o.capacityWork, o.capacityIdle, o.messages, o.fairFor = 60, 2*time.Second, 10, time.Second
		o.soak = min(o.soak, time.Minute)
		o.runs, o.rounds, o.stored, o.waiting, o.partners, o.ended = 3, 1, 1000, 200, 200, 3000
		*many, *tasks, *jobs, *parties = "5", "10,50", "5,20", "3,20"
	}
	var wrong error
	if o.ended <= storedFew || o.ended%1000 != 0 {
		wrong = errors.Join(wrong,
			fmt.Errorf("-ended %d: must be a multiple of 1000 above %d", o.ended, storedFew))
	}
	if o.waiting <= fewWaiting {
		wrong = errors.Join(wrong, fmt.Errorf("-waiting %d: must be above %d", o.waiting, fewWaiting))
	}
	if o.partners <= 100 {
		wrong = errors.Join(wrong, fmt.Errorf("-partners %d: must be above 100", o.partners))
	}
	if o.stored <= fewStored {
		wrong = errors.Join(wrong, fmt.Errorf("-stored %d: must be above %d", o.stored, fewStored))
	}
	for flag, sizes := range map[*string]*[]int{many: &o.many, tasks: &o.tasks, jobs: &o.jobs,
		parties: &o.parties} {
		for _, text := range strings.Split(*flag, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 2 {
				wrong = errors.Join(wrong, fmt.Errorf("%q: must be a number above 1", text))
			}
			*sizes = append(*sizes, n)
		}
	}
	chosen, err := selectSections(*only)
	databases := 0 // sections that need an empty one
	for _, s := range chosen {
		if s.name == "read" || s.name == "stored" {
			databases++
		}
	}
	if o.database != "" && databases > 1 {
		wrong = errors.Join(wrong,
			errors.New("-database: read and stored need an empty one each; choose with -only"))
	}
	if err = errors.Join(wrong, err); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	runtime.LockOSThread() // child processes end with the thread that started them
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

// selectSections returns the sections that the flag names, or the default ones.
func selectSections(only string) ([]section, error) {
	var chosen []section
	for _, s := range sections {
		if only == "" && s.byDefault || only != "" && slices.Contains(strings.Split(only, ","), s.name) {
			chosen = append(chosen, s)
		}
	}
	if only != "" && len(chosen) != len(strings.Split(only, ",")) {
		return nil, fmt.Errorf("-only %s: must be among %s", only, sectionNames())
	}
	return chosen, nil
}

// imageTag is the reference provider's image under a name that nothing else uses.
const imageTag = "hutong/bench:1"

// run runs the chosen sections and prints their report. missed reports whether a figure misses its target.
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
			return false, fmt.Errorf("%w: run 'make build' first", err)
		}
	}

	var all report
	defer func() { all.print(os.Stdout) }() // also after a failure
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

// load returns the machine's load, so that readers of the results can judge what else was running.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) == 0 {
		return "unknown"
	}
	return fields[0] + " on " + strconv.Itoa(runtime.NumCPU()) + " cores"
}

// connectDocker connects to the Docker Engine and loads the reference provider's image. Without a Docker
// Engine it returns neither a client nor an error.
func (o options) connectDocker(ctx context.Context) (*client.Client, error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	if _, err := docker.Ping(ctx); err != nil {
		fmt.Println("skipping containers, since no Docker Engine answers:", err)
		return nil, docker.Close()
	}
	if err := image.Load(ctx, docker, o.provider, imageTag); err != nil {
		return nil, errors.Join(err, docker.Close())
	}
	return docker, nil
}

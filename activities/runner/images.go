package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

// fixImage returns the image of a container. If nobody had resolved its reference when the job was created,
// this resolves it, for the whole job: an image that gets the same name later does not change a running job.
func (r *Runner) fixImage(ctx context.Context, d driver.Driver, record *store.JobRecord,
	provider store.Provider, req activities.PartRequest, component string) (activities.Image, error) {
	image, err := activities.ImageInJob(record, provider, component)
	finder, finds := d.(driver.ImageFinder)
	if err != nil || !finds || image.Reference == "" || len(image.IDs) > 0 {
		return image, err
	}
	id, err := finder.ImageID(ctx, image.Reference)
	if err != nil && !errors.Is(err, driver.ErrNoImage) {
		return image, err
	}
	image.IDs, err = r.Store.FixImage(ctx, req.Key.JobID, provider, image.Reference, r.RunnerID, id)

	return image, err
}

// missingImage returns an error that names the image as it was registered, and the machine.
func (t *taskRun) missingImage(ctx context.Context, cause error) error {
	record, err := activities.JobRecord(ctx, t.Store, t.req.Key.JobID)
	if err != nil {
		return err
	}
	container, err := activities.ContainerSpec(ctx, t.Store, t.req.Key, t.req.Part, t.req.TaskID)
	if err != nil {
		return err
	}
	task := container.Task
	for _, provider := range record.Registry.Entries(task.Provider, task.Version, task.ComponentName) {
		if provider.Device != string(bfia.DeviceDocker) {
			continue
		}
		image, err := activities.ImageInJob(record, provider, task.ComponentName)
		if err != nil {
			return err
		}

		return driver.WrapError("create", t.name, driver.NonRetryable(fmt.Errorf("%s%w",
			t.describeMissing(image), silent{driver.ErrNoImage})))
	}

	return cause
}

// describeMissing says which image this runner lacks, and what to do. Pulling a reference that was resolved
// to an id can bring another image, which the job would not run.
func (r *Runner) describeMissing(i activities.Image) string {
	if len(i.IDs) == 0 {
		return fmt.Sprintf("the image %s is not on runner %s of machine %s; pull or load it there: docker pull %[1]s",
			i.Reference, r.RunnerID, r.Machine)
	}

	return fmt.Sprintf("the image %s (%s) is not on runner %s of machine %s; the job runs no other image, also if "+
		"%[1]s names one now; load it there from a runner that has it (docker save, docker load)",
		i.Reference, strings.Join(i.Alternatives(), " or "), r.RunnerID, r.Machine)
}

// silent is an error that adds nothing to a message.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

package participant

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

// lackingRunners are the runners that turned out to lack the image of a part, and what each reported.
type lackingRunners struct {
	ids     []string
	reports []string
}

// lacksImage reports whether a container could not be created because its runner lacks the image.
func lacksImage(result activities.PartResult) bool {
	return result.Failure != nil && result.Failure.Kind == bfia.FailedImage
}

// claimRunnerWithImage claims another runner for a part whose runner lacks the image. If others that could
// have it are busy, it waits. It returns false if no other runner could have the image, or the job is over.
// Then the failure names all runners that lack it.
func (j *job) claimRunnerWithImage(ctx workflow.Context, t *task, part *taskPart, lacking *lackingRunners,
	failure *bfia.Failure) bool {
	lacking.ids = append(lacking.ids, part.claim.RunnerID)
	lacking.reports = append(lacking.reports, failure.Message)
	over := func() bool {
		return ctx.Err() != nil || part.state.Terminal() || j.stoppedBy != "" ||
			t.stopped != nil
	}
	for wait := claimRetry; !over(); wait = min(2*wait, maxClaimRetry) {
		var claims []participant.Claim
		in := participant.ClaimTaskInput{Task: j.ref(t), Parts: []bfia.Part{part.part},
			ParallelIndex: t.parallelIndex, Lacking: lacking.ids, At: workflow.Now(ctx)}
		summary := "claim a runner with the image for " + t.plan.Name
		err := workflows.Record(ctx, summary, act.ClaimTask, in).Get(ctx, &claims)
		if err == nil {
			part.claim = claims[0]
			j.wait(ctx, []*taskPart{part}, nil)
			j.describe(ctx)

			return true
		}
		if code, _, refused := workflows.RefusalCode(err); refused && code != bfia.CodeUnavailable {
			break
		}
		j.wait(ctx, []*taskPart{part}, &bfia.Waiting{Kind: bfia.WaitsForImage, NodeID: j.Node,
			Message: "waits for a runner with its image: " + workflows.Reason(err)})
		workflows.AwaitFor(ctx, wait, over)
	}
	failure.Message = strings.Join(lacking.reports, "; ")

	return false
}

package notify

import (
	"strconv"

	"hutong/bfia"
)

// catalogue holds the words of one language.
type catalogue struct {
	messages                             map[Kind]template
	flow, initiator, because, time, link string
	where, by                            string
	outcomes                             map[bfia.Outcome]string
	failures                             map[bfia.FailureKind]string
}

// template is the message of a kind of event. command says what to do where there is no link.
type template struct{ subject, text, command string }

func itoa(n int) string { return strconv.Itoa(n) }

var catalogues = map[Language]*catalogue{English: &english, Chinese: &chinese}

var english = catalogue{
	messages: map[Kind]template{
		Approval: {"Hutong {node}: job {job} waits for approval",
			"Job {job} waits for the approval of {node}.", "To see it: hutong job show {job}"},
		JobFailed: {"Hutong {node}: job {job} failed", "Job {job} failed.",
			"To see why: hutong job status {job}"},
		JobEnded: {"Hutong {node}: job {job} {outcome}", "Job {job} {outcome}.",
			"To see more: hutong job status {job}"},
		GrantRequest: {"Hutong {node}: {partner} asks for a grant",
			"{partner} asks {node} for a grant of the dataset {dataset} (request {request}).",
			"To decide: hutong grant approve {request}, or hutong grant deny {request}"},
		RunnerSilent: {"Hutong {node}: runner {runner} is silent",
			"Runner {runner} on machine {machine} sends no heartbeats to {node} any more. " +
				"It gets no new tasks.",
			"To see all runners: hutong runner list"},
		PartnerSilent: {"Hutong {node}: {partner} does not answer",
			"{partner} has not answered {node} since {since}. Jobs that wait for it: {jobs}.",
			"To see whether it can be reached: hutong doctor"},
		PartnerBack: {"Hutong {node}: {partner} answers again",
			"{partner} answers {node} again. It had not since {since}.", "To see the jobs: hutong job list"},
		Test: {"Hutong {node}: test message", "This is a test message of {node}. Nothing has happened.", ""},
	},
	flow: "Flow: {flow}", initiator: "Initiator: {initiator}", because: "Reason: {reason}",
	time: "Time: {time}", link: "More: {link}",
	where: "task {task} at {at}: {text}", by: " by ",
	outcomes: map[bfia.Outcome]string{bfia.OutcomeSuccess: "succeeded", bfia.OutcomeFailed: "failed",
		bfia.OutcomeStopped: "was stopped", bfia.OutcomeRejected: "was rejected",
		bfia.OutcomeRefused: "was refused", "": "ended"},
	failures: map[bfia.FailureKind]string{
		bfia.FailedExit: "exit code {code}", bfia.FailedMemory: "out of memory",
		bfia.FailedLogFiles: "the container's log files exceeded their limit",
		bfia.FailedImage:    "the image is missing on the runner",
		bfia.FailedStart:    "the container could not be started",
		bfia.FailedInput:    "a dataset or a provider is missing",
		bfia.FailedOutput:   "an output could not be read",
		bfia.FailedReported: "the component reported that it failed",
		bfia.FailedVanished: "the container was removed from outside",
		bfia.FailedKilled:   "the container was killed", bfia.FailedTemporary: "a temporary failure",
		bfia.FailedPartner:    "a partner's part of the task failed",
		bfia.FailedRunnerLost: "its runner was lost", bfia.FailedRefused: "a party refused a command",
		bfia.FailedTimeout: "a party did not answer in time", bfia.FailedStopped: "stopped",
		bfia.FailedRejected: "rejected", bfia.FailedInternal: "an error of the party's own services",
		bfia.FailedUnknown: "the party gave no reason"},
}

var chinese = catalogue{
	messages: map[Kind]template{
		Approval: {"Hutong {node}：作业 {job} 等待审批", "作业 {job} 正在等待 {node} 审批。",
			"查看：hutong job show {job}"},
		JobFailed: {"Hutong {node}：作业 {job} 失败", "作业 {job} 已失败。",
			"查看原因：hutong job status {job}"},
		JobEnded: {"Hutong {node}：作业 {job} {outcome}", "作业 {job} {outcome}。",
			"查看详情：hutong job status {job}"},
		GrantRequest: {"Hutong {node}：{partner} 申请授权",
			"{partner} 向 {node} 申请数据集 {dataset} 的授权（申请 {request}）。",
			"处理：hutong grant approve {request} 或 hutong grant deny {request}"},
		RunnerSilent: {"Hutong {node}：运行机 {runner} 无心跳",
			"机器 {machine} 上的运行机 {runner} 不再向 {node} 发送心跳，不会再分配新任务。",
			"查看所有运行机：hutong runner list"},
		PartnerSilent: {"Hutong {node}：{partner} 无应答",
			"{partner} 自 {since} 起未应答 {node}。等待它的作业数：{jobs}。",
			"检查能否连通：hutong doctor"},
		PartnerBack: {"Hutong {node}：{partner} 已恢复应答",
			"{partner} 已恢复应答 {node}，此前自 {since} 起无应答。", "查看作业：hutong job list"},
		Test: {"Hutong {node}：测试消息", "这是 {node} 的一条测试消息，没有发生任何事件。", ""},
	},
	flow: "流程：{flow}", initiator: "发起方：{initiator}", because: "原因：{reason}",
	time: "时间：{time}", link: "详情：{link}",
	where: "{at} 的任务 {task}：{text}", by: "，操作方：",
	outcomes: map[bfia.Outcome]string{bfia.OutcomeSuccess: "已成功", bfia.OutcomeFailed: "已失败",
		bfia.OutcomeStopped: "已停止", bfia.OutcomeRejected: "已被拒绝",
		bfia.OutcomeRefused: "未被接受", "": "已结束"},
	failures: map[bfia.FailureKind]string{
		bfia.FailedExit: "退出码 {code}", bfia.FailedMemory: "内存不足",
		bfia.FailedLogFiles: "容器的日志文件超出限制",
		bfia.FailedImage:    "运行机上缺少镜像",
		bfia.FailedStart:    "容器无法启动",
		bfia.FailedInput:    "缺少数据集或提供方",
		bfia.FailedOutput:   "无法读取输出",
		bfia.FailedReported: "组件报告失败",
		bfia.FailedVanished: "容器被外部删除",
		bfia.FailedKilled:   "容器被终止", bfia.FailedTemporary: "临时故障",
		bfia.FailedPartner:    "伙伴方的任务部分失败",
		bfia.FailedRunnerLost: "运行机失联", bfia.FailedRefused: "某一方拒绝了指令",
		bfia.FailedTimeout: "某一方未及时响应", bfia.FailedStopped: "被停止",
		bfia.FailedRejected: "被拒绝", bfia.FailedInternal: "本方服务内部错误",
		bfia.FailedUnknown: "对方未说明原因"},
}

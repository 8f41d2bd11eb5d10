/** Owns the Chinese of the reasons that the server gives as English sentences. */
import { lang, named, t } from "./i18n.ts";
import type { Name } from "./types.ts";

const ZH: Readonly<Record<string, string>> = {
  "an alarm of the ticketed priority was raised and no ticket of its place was open": "达到登记级别的报警，且该处没有未销号的隐患",
  "a ticket of the same place is already open": "该处已有未销号的隐患",
  "first alarm of its place": "该处的首个报警",
  "a graver alarm while the chain is running": "通知过程中出现更严重的报警",
  "nobody has acknowledged": "无人确认，逐级上报",
  "nobody has acknowledged the last step": "最后一级仍无人确认，重复通知",
  "an unacknowledged alarm came off the shelf": "搁置结束，报警仍未确认",
  "an acknowledged alarm is still active": "已确认的报警仍未消除，再次通知",
  "an acknowledgement was taken back": "确认已撤销，重新通知",
  "an unacknowledged alarm is no longer suppressed": "抑制解除，报警仍未确认",
  "suppressed by design all the while": "自始至终处于设计抑制，未曾通知",
  "still active": "仍未消除",
  "time is up": "搁置到期",
  "the alarm has returned": "报警已恢复",
  "a worse alarm of the point was raised": "该测点出现更严重的报警",
  "no longer watched": "不再监测",
  "at the gateway": "网关端",
  "stands at the gateway": "网关端已有此报警",
  "acknowledged at the gateway": "已在网关端确认",
  "unknown here": "本端厂区文件没有此报警",
  "told after a later one was found here": "本端已发现更晚的一次之后才送达",
  "from before the gateway decided": "网关接手判断之前",
  "acknowledged before the gateway raised it": "网关报警之前已在本端确认",
  "stands as it was recorded: the engine's state was lost, and the readings decide from here on":
    "引擎状态丢失，报警按记录保持；此后由读数判断",
  "only a ticket under rectification can be submitted": "只有整改中的隐患可以提交验收",
  "only a submitted ticket can be accepted or rejected": "只有待验收的隐患可以验收或退回",
  "who submitted the work must not accept it": "提交人不得验收自己的整改",
  "an alarm of this ticket is still active": "该隐患关联的报警尚未恢复",
  "say what was done, or why not": "请写明整改措施或退回原因",
  "The alarms worker has not answered in time; the command may still be carried out.": "报警进程未及时答复；命令仍可能被执行，请核对报警状态",
  "The command could not be handed to the alarms worker.": "命令没有送达报警进程",
  "The database of readings does not answer.": "历史数据库没有响应",
  "the alarm is not active": "该报警已不存在",
  "the alarm is already acknowledged": "该报警已被确认",
  "the alarm was raised again since; look at the new one": "该报警已再次触发，请处理新的一条",
  "the alarm is not acknowledged": "该报警尚未确认",
  "the alarm is not latched": "该报警没有锁存",
  "acknowledge the alarm before resetting it": "复位前须先确认报警",
  "a reason is needed": "必须填写原因",
  "shelving must end after it begins": "搁置的结束时间须晚于开始时间",
  "longer than this priority may be shelved": "超过该优先级允许的搁置时长",
  "the alarm is not shelved": "该报警没有被搁置",
  "the alarm is already out of service": "该报警已停用",
  "the alarm is not out of service": "该报警没有停用",
};
const KNOWN: ReadonlyMap<string, string> = new Map(Object.entries(ZH));

/** A reason in the language shown now, part by part; what is not known stands as the server, or a person, wrote it. */
export function said(reason: Name | string): string {
  if (typeof reason !== "string" || lang.value !== "zh") return named(reason);
  const whole = KNOWN.get(reason);
  const parts = reason.split("; ");
  if (whole !== undefined || !parts.some((part) => KNOWN.has(part))) return whole ?? reason;
  return parts.map((part) => KNOWN.get(part) ?? part).join(t("listSemicolon"));
}

const STEPS = ["submit", "accept", "reject"] as const;

/** An entry of a ticket's log: what somebody did, and the words that came with it. */
export function logged(what: Name | string): string {
  const step = typeof what === "string" ? STEPS.find((each) => what.startsWith(`${each}: `)) : undefined;
  return typeof what !== "string" || step === undefined ? named(what) : t("logged", { step: t(step), text: what.slice(step.length + 2) });
}

/** Owns who is signed in: the start of the page, signing in and out, and the end of a session. */
import { batch } from "@preact/signals";
import { ApiError, api, whenUnauthorised } from "./api.ts";
import { chosenByHand, selectedPoint, selectedTicket, session, signedOutBecause, tab } from "./store.ts";
import { stream } from "./stream.ts";

const ASK_AGAIN_MS = 2000;

/** Finds out whether somebody is signed in, asking again until the server answers. */
export async function startSession(): Promise<void> {
  whenUnauthorised(() => {
    if (!session.value) return;
    signedOutBecause.value = "ended";
    leave();
  });
  for (;;) {
    try {
      session.value = await api.session();
      stream.start();
      return;
    } catch (error) {
      if (error instanceof ApiError && error.status !== 0 && error.status < 500) {
        session.value = null;
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    }
  }
}

export async function signIn(user: string, password: string): Promise<void> {
  const who = await api.signIn(user, password);
  batch(() => {
    session.value = who;
    signedOutBecause.value = null;
  });
  stream.start();
}

export async function signOut(everywhere = false): Promise<void> {
  await api.signOut(everywhere);
  leave();
}

/** Every session ends with the old password, this one too. */
export async function changePassword(old: string, fresh: string): Promise<void> {
  await api.changePassword(old, fresh);
  signedOutBecause.value = "ended";
  leave();
}

function leave(): void {
  stream.stop();
  batch(() => {
    session.value = null;
    selectedPoint.value = null;
    chosenByHand.value = false;
    selectedTicket.value = null;
    // Whoever signs in next may perhaps not see what was shown.
    tab.value = "points";
  });
}
